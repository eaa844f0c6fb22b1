"""What an entry says when it fails: whole lines in a log, lines broken between words on a terminal."""

import io
import sys

import pytest

from configs.load import ConfigError
from launch.cli import REFUSED, exit_status
from launch.monitoring.plain_text import broken


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def refused() -> int:
    raise ConfigError("one two three four five six seven eight nine ten eleven")


@pytest.mark.parametrize(("stream", "lines"), [(Terminal, 4), (io.StringIO, 1)])
def test_an_error_is_broken_between_words_on_a_terminal_alone(
    stream: type[io.StringIO], lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = stream()
    monkeypatch.setattr(sys, "stderr", told)
    monkeypatch.setenv("COLUMNS", "20")
    assert exit_status(refused) == REFUSED
    text = told.getvalue()
    assert text.count("\n") == lines
    assert text.split() == ["error:", *str(ConfigError("one two three four five six seven eight nine ten eleven")).split()]
    assert lines == 1 or all(len(line) <= 20 for line in text.splitlines())


def test_a_path_is_never_broken() -> None:
    assert broken("error: /a/long/path/that/is-one-word is gone", 12) == "error:\n/a/long/path/that/is-one-word\nis gone"
