"""A strict reader of HTML pages, for tests."""

import re
from html.parser import HTMLParser

VOID = {"meta", "br", "hr"}
WORDS = (
    "html head title style body header section article footer div span p h1 h2 h3 h4 b i small ol li dl dt dd details summary"
    " pre code figure svg g path polyline circle rect text table tr th td"
)
OWN_TAGS = VOID | set(WORDS.split())
INVISIBLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u061c\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


class Page(HTMLParser):
    """A strict reader of a page: every element must be closed in order. Keeps tags, attributes and text."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(source)
        self.close()
        assert self.open == [], f"left open: {self.open}"

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((name, {key: value or "" for key, value in attributes}))
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data
