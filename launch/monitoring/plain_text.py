"""Text from elsewhere, made safe to print: no control characters, no invisible marks, no credentials."""

import re
import shutil
import sys
import textwrap
import unicodedata

from launch.monitoring.redaction import redacted

# Unicode categories that a terminal may act on: controls, bidi marks, surrogates, line and paragraph separators
ACTIVE_CATEGORIES = ("Cc", "Cf", "Cs", "Zl", "Zp")
LABEL = 11  # characters of a label and its blanks, at the head of a line


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


def log_line(message: str) -> str:
    """Returns one line that may quote what is not ours, as `clean`, with the blanks behind its label; broken as by `fitted`.

    >>> log_line("note       two  blanks")
    'note       two blanks'
    """
    if message[LABEL - 1 : LABEL] != " ":
        return fitted(clean(message))
    return fitted(f"{clean(message[:LABEL]):<{LABEL}}{clean(message[LABEL:])}")


def fitted(text: str, columns: int | None = None) -> str:
    """Returns lines of a label and a text, broken between words where the terminal ends, the rest under the text.

    Args:
        text: Lines as `memory     3.6 GB planned in all`.
        columns: Of the terminal; None: those of standard output, if it is one. Elsewhere a line stays whole.
    """
    if columns is None:
        columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    if columns < 2 * LABEL:
        return text
    return "\n".join(broken(line, columns, indent=" " * LABEL) for line in text.split("\n"))


def broken(line: str, columns: int, *, indent: str = "") -> str:
    """Returns a line broken between words; whole where it fits, or there is no terminal (0 columns).

    Args:
        line: One line.
        columns: Of the terminal.
        indent: Of what follows its first line.

    >>> broken("error: too long", 10)
    'error: too\\nlong'
    """
    if not 0 < columns < len(line):
        return line
    return textwrap.fill(line, columns, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
