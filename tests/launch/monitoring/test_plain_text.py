"""Text from elsewhere holds no character that a terminal acts on, once it is cleaned."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grm.preferences import DataError
from launch.cli import exit_status
from launch.monitoring.plain_text import clean, clean_lines, fitted, log_line


def test_a_cleaned_message_is_one_line() -> None:
    assert clean("a\n\tb\x1b[0m \u202ec") == "a b�[0m �c"


@given(st.text())
def test_an_error_keeps_its_lines_and_no_character_that_acts(message: str) -> None:
    cleaned = clean_lines(message)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", cleaned)
    assert cleaned.count("\n") == message.count("\n")
    assert clean_lines(cleaned) == cleaned


def test_an_error_loses_its_colours_and_keeps_its_blanks(capsys: pytest.CaptureFixture[str]) -> None:
    def enter() -> int:
        raise DataError("\x1b[1;31mred\x1b[0m\n  in line 2:\tשלום\x1b]0;title\x07\x1b[2J \u202eevil")

    assert exit_status(enter) == 2
    assert capsys.readouterr().err == "error: red\n  in line 2:    שלום�]0;title��[2J �evil\n"


def test_long_lines_break_between_words_under_their_text() -> None:
    line = "steps      80 optimiser steps x 8 groups x 8 completions = 5,120 completions trained"
    assert fitted(f"device     2 CPU cores\n{line}", columns=60) == (
        "device     2 CPU cores\n"
        "steps      80 optimiser steps x 8 groups x 8 completions =\n"
        "           5,120 completions trained"
    )
    assert fitted(line, columns=0) == line, "a log has no width"
    path = "run        " + "/long" * 20
    assert fitted(path, columns=60) == f"run\n           {'/long' * 20}", "a path is copied whole"


def test_a_log_line_keeps_the_blanks_behind_its_label_and_stays_one_line() -> None:
    assert log_line("note       the server says:\n  judged 9 of 9\x1b[2J") == "note       the server says: judged 9 of 9�[2J"
    assert log_line("judged 9 of 9  preferences") == "judged 9 of 9 preferences"
    assert log_line("abcdefghij klm") == "abcdefghij klm"
