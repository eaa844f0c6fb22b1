"""HTML that is safe by construction.

Only `tag` makes markup, and it escapes every string that is not markup already. So text from a model or a data set cannot
become a tag, an attribute or an invisible character, even where a caller forgets about it.
"""

import html
import unicodedata
from collections.abc import Iterable


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, *children: str | None, **attributes: object) -> Markup:
    """Returns an element.

    Args:
        name: the element's name.
        *children: markup, or plain strings, which are escaped; None is left out.
        **attributes: named as Python allows, so `class_` is class and `text_anchor` is text-anchor; None is left out.
    """
    pairs = [(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items()]
    head = "".join(f' {key}="{escape(_attribute_text(value))}"' for key, value in pairs if value is not None)
    body = join(child for child in children if child is not None)
    return Markup(f"<{name}{head}>{body}</{name}>" if name not in ("br", "hr") else f"<{name}{head}>")


def join(texts: Iterable[str]) -> Markup:
    """Concatenate texts, each escaped unless it is markup."""
    return Markup("".join(text if isinstance(text, Markup) else escape(text) for text in texts))


def escape(text: str) -> str:
    """Escape HTML, and make visible what would act unseen.

    Controls and bidi marks become [U+202E], lone surrogates U+FFFD. Ordinary right-to-left text is kept; its element
    isolates it (`dir="auto"`).
    """
    text = text.replace("\r\n", "\n")
    return html.escape("".join(c if c.isprintable() or c in "\n\t" else _visible(c) for c in text))


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Zs" or character in "\u200c\u200d":  # spaces, and the joiners that scripts and emoji need
        return character
    return "\ufffd" if category == "Cs" else f"[U+{ord(character):04X}]"


def _attribute_text(value: object) -> str:
    """Returns the text of an attribute; coordinates have two decimals, because nobody can see the third."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
