"""Text made safe to show: no control characters from elsewhere, no credentials."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

ACTING = ("Cc", "Cf", "Cs", "Zl", "Zp")  # characters that a terminal may act on: controls, bidi marks, surrogates, line ends


def clean(message: str) -> str:
    """One line without control, format (bidi) or surrogate characters; each run of white space is one blank."""
    kept = (c if c.isspace() or unicodedata.category(c) not in ACTING else "�" for c in message)
    return " ".join("".join(kept).split())


def clean_lines(message: str) -> str:
    """The same line by line, blanks as they are: for an error that quotes a log or a traceback, whose colours are dropped."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", message).expandtabs()
    return "".join(c if c == "\n" or unicodedata.category(c) not in ACTING else " " if c.isspace() else "�" for c in plain)


SECRET = re.compile(r"(?i)(^|_)(api_key|password|secret|auth_token)$")


def redacted(value: Any, environ: Mapping[str, str]) -> Any:
    """The config without credentials: userinfo of URLs, values of secret environment variables, leaves named like one."""
    if isinstance(value, Mapping):
        return {k: "***" if SECRET.search(str(k)) and v else redacted(v, environ) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item, environ) for item in value]
    if not isinstance(value, str):
        return value
    for name, secret in environ.items():
        if SECRET.search(name) and len(secret) >= 6:
            value = value.replace(secret, "***")
    return re.sub(r"://[^/\s@]+@", "://***@", value)
