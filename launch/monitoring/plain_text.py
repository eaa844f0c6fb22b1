"""Text from elsewhere, made safe to print: no control characters, no invisible marks, no credentials."""

import re
import unicodedata

from launch.monitoring.redaction import redacted

# Unicode categories that a terminal may act on: controls, bidi marks, surrogates, line and paragraph separators
ACTIVE_CATEGORIES = ("Cc", "Cf", "Cs", "Zl", "Zp")


def clean(message: str) -> str:
    """Returns one line without control, format (bidi) or surrogate characters, and without the secrets that `redacted` knows;
    white space is collapsed."""
    kept = (c if c.isspace() or unicodedata.category(c) not in ACTIVE_CATEGORIES else "�" for c in message)
    return str(redacted(" ".join("".join(kept).split())))


def clean_lines(message: str) -> str:
    """Returns the message cleaned line by line, with its blanks kept and its colours dropped.

    This is for errors that quote a log or a traceback.
    """
    plain = re.sub(r"\x1b\[[0-9;]*m", "", message).expandtabs()
    kept = (c if c == "\n" or unicodedata.category(c) not in ACTIVE_CATEGORIES else " " if c.isspace() else "�" for c in plain)
    return str(redacted("".join(kept)))
