"""HTML that is safe by construction: no text becomes markup, and nothing acts unseen."""

from hypothesis import given
from hypothesis import strategies as st

from launch.page.markup import Markup, escape, tag
from tests.launch.page.strict_page import INVISIBLE, Page


@given(st.text(), st.text())
def test_no_text_becomes_markup(text: str, attribute: str) -> None:
    page = Page(tag("p", text, tag("b", text), title=attribute))
    assert [name for name, _ in page.tags] == ["p", "b"]
    assert page.tags[0][1].keys() <= {"title"}
    assert not INVISIBLE.search(tag("p", text))
    if text.isprintable():
        assert page.text == text * 2


def test_markup_is_kept_and_text_is_not() -> None:
    assert tag("p", Markup("<b>x</b>"), "<b>", None, class_="a", hidden=None, stroke_width=1.0) == (
        '<p class="a" stroke-width="1"><b>x</b>&lt;b&gt;</p>'
    )
    assert escape("a\r\nb\tc\u00a0d\u200de\ud800") == "a\nb\tc\u00a0d\u200de\ufffd"
