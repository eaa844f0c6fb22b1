"""Questions and answers from docstrings, by a folder of sources of ours and by the standard library."""

from pathlib import Path

from launch.dev.docstrings import answers, first_sentence

SOURCE = '''
"""A module."""

def pour(cup):
    """Pour what is in the pot into a cup that is empty. It may still
    be hot."""

def _hidden():
    """Do something that nobody outside of here should ever need."""

def short():
    """Too short for this."""

class Kettle:
    """Boil water until it is hot enough for a pot of tea.

    And more."""

    def drain(self):
        """Let all of the water out, however hot it may still be."""

    def fill(self):
        """Fill it with as much cold water as it can possibly hold."""

    def refill(self):
        """Fill it with as much cold water as it can possibly hold."""
'''


def test_each_public_name_with_a_sentence_of_its_own_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "kitchen").mkdir()
    (tmp_path / "kitchen" / "__init__.py").write_text(SOURCE)
    (tmp_path / "kitchen" / "_private.py").write_text(SOURCE)
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "kitchen.py").write_text(SOURCE)
    (tmp_path / "broken.py").write_text("def (")
    assert answers(tmp_path) == [
        ("What does kitchen.Kettle do in Python?", "Boil water until it is hot enough for a pot of tea."),
        ("What does kitchen.Kettle.drain do in Python?", "Let all of the water out, however hot it may still be."),
        ("What does kitchen.pour do in Python?", "Pour what is in the pot into a cup that is empty."),
    ]


def test_a_first_sentence_ends_where_its_paragraph_does() -> None:
    assert first_sentence("  One\n two.\nThree.\n\nFour.") == "One two."
    assert first_sentence("A title\n\nText.") == "A title"
    assert first_sentence("") == ""


def test_the_standard_library_has_enough() -> None:
    found = answers()
    assert len(found) > 1500
    assert len({text for _, text in found}) == len({query for query, _ in found}) == len(found)
