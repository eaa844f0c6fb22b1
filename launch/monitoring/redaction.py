"""Credentials, removed from what is stored, uploaded or shown."""

import re
from collections.abc import Mapping
from typing import Any

SECRET = re.compile(r"(?i)(^|_)(api_key|password|secret|auth_token)$")  # names of config leaves and environment variables
SHORTEST = 6  # characters of a secret that is replaced inside other text


def redacted(value: Any, environ: Mapping[str, str]) -> Any:
    """Returns a copy without credentials.

    Args:
        value: a config, a part of one, or a text.
        environ: environment variables; the values of those named like a secret are replaced wherever they occur.

    Returns:
        The same structure with `***` in place of leaves named like a secret, such values, and the userinfo of URLs.
    """
    if isinstance(value, Mapping):
        return {k: "***" if SECRET.search(str(k)) and v else redacted(v, environ) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item, environ) for item in value]
    if not isinstance(value, str):
        return value
    for name, secret in environ.items():
        if SECRET.search(name) and len(secret) >= SHORTEST:
            value = value.replace(secret, "***")
    return re.sub(r"://[^/\s@]+@", "://***@", value)
