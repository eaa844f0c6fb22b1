"""The address and the key of an endpoint, checked before anything is made or asked.

address, key ─▶ no address? a password in it? a key that no header takes? ─▶ ErrorTexts, which quote neither password nor key
"""

import re
from urllib.parse import urlsplit

from launch.judging.endpoint_errors import ErrorTexts
from launch.setup.environment import variable

_USERINFO = re.compile(r"\A(\w+://)?.*@", re.DOTALL)  # of whatever was given, an address or not


def texts_of(url: str, model: str, *, api_key: str | None = None) -> ErrorTexts:
    """Returns what the errors of an endpoint are made with: its address, the model's name, the key.

    Args:
        url: http://host:port/v1, with or without a slash at its end.
        model: Name of the served model.
        api_key: None: OPENAI_API_KEY.

    Raises:
        EndpointError: No request could be made of the address or the key. (A header takes printable ASCII; its own error would
            quote the key.)
    """
    key = (api_key if api_key is not None else variable("OPENAI_API_KEY")).strip()
    texts = ErrorTexts(_USERINFO.sub(r"\1***@", url.rstrip("/")), model, key)
    if texts.url != url.rstrip("/"):  # it would stand in the files of an evaluation, and openai's client sends the key alone
        remedy = "set OPENAI_API_KEY to the key, and give the address as http://host:port/v1"
        raise texts.error("nothing was asked", "the address holds a user name or a password", remedy)
    try:
        parts = urlsplit(texts.url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not close, a port that is no number
        sound = False
    if not sound or parts.query or parts.fragment:
        raise texts.error("nothing was asked", "this is no address", "give it as http://host:port/v1")
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise texts.error("nothing was asked", "the key holds characters that no header takes", "set OPENAI_API_KEY anew")
    return texts
