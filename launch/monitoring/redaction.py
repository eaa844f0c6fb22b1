"""Credentials, removed from what is stored, uploaded or shown. The only place that knows what a secret is.

text ─▶ plain_text.clean, clean_lines ─▶ console, errors, status        config, summary, page ─▶ redacted ─▶ files, W&B
"""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

# Names of config leaves and environment variables: HF_TOKEN, AWS_SECRET_ACCESS_KEY, PGPASSWORD, ... A name with another sign in
# it is a key of data, such as `how-to-pass` or `owner/my-token`.
SECRET = re.compile(
    r"(?i)([\w.]*[_.])?(key|pass|pat)|[\w.]*(apikey|accesskey|token|password|passwd|passphrase|secret|credentials?)"
)
SHORTEST = 6  # characters of a secret that is replaced inside other text
MASK = "***"
_AUTHORITY = re.compile(r"[^/?#]*")


def redacted(value: Any, environ: Mapping[str, str] = os.environ) -> Any:
    """Returns a copy without credentials.

    Args:
        value: a config, a part of one, or a text.
        environ: environment variables; the values of those named like a secret, and the passwords of URLs in the others, are
            replaced wherever they occur.

    Returns:
        The same structure with `***` in place of leaves named like a secret, such values, and the userinfo of URLs.
    """
    return _redacted(value, sorted(_secrets(environ), key=len, reverse=True))  # one may be the beginning of another


def _redacted(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, Mapping):
        return {k: MASK if SECRET.fullmatch(str(k)) and v else _redacted(v, secrets) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(item, secrets) for item in value]
    if not isinstance(value, str):
        return value
    for secret in secrets:
        value = value.replace(secret, MASK)
    return re.sub(r"\S+", lambda word: _without_userinfo(word[0]), value) if "://" in value and "@" in value else value


def _secrets(environ: Mapping[str, str]) -> set[str]:
    """Returns the secrets of the environment in each form in which a text may hold them: as it is, on one line, in a URL."""
    found = set()
    for name, value in environ.items():
        if SECRET.fullmatch(name):
            found.add(value.strip())
        elif "://" in value and "@" in value:
            found |= {value[start:end].partition(":")[2] for start, end in _userinfo(value)}
    forms = {form for secret in found for form in (secret, " ".join(secret.split()), quote(secret, safe=""))}
    return {form for form in forms if len(form) >= SHORTEST}


def _without_userinfo(word: str) -> str:
    for start, end in _userinfo(word):
        return f"{word[:start]}{MASK}{word[end:]}"
    return word


def _userinfo(word: str) -> Iterator[tuple[int, int]]:
    """Yield where user and password stand in a text without blanks, if it has a URL that holds them: up to its last `@`.

    A password may hold `@`, `/`, `?` or `#` that should have been escaped; rather too much is masked than too little.
    """
    end, sign = word.rfind("@"), word.find("://")
    while 0 <= sign <= end - 3:
        start = sign + 3
        authority = _AUTHORITY.match(word, start)
        host = authority[0] if authority else ""
        port = "" if host.startswith("[") else host.partition(":")[2]  # `[::1]:80`
        if "@" in host or (port and not port.isdigit()):
            yield start, end
            return
        sign = word.find("://", start)
