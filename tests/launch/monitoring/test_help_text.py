"""`--help` of every entry at 80 columns: nothing is cut or wrapped in a word, and commands are named as they were started."""

import argparse
import importlib
import re
import sys

import pytest

from launch.monitoring.help_text import HelpFormatter, fitted_help
from spct.command import ENTRIES

DRAWN = re.compile("[─│┌▶▼]")


def help_of(module: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit):
        importlib.import_module(module).main(["--help"])
    return capsys.readouterr().out


@pytest.mark.parametrize("name", ENTRIES)
def test_the_help_of_an_entry_fits_80_columns(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", ["/env/bin/spct"])
    text = help_of(ENTRIES[name][0], capsys)
    wide = [line for line in text.splitlines() if len(line) > 80 and not DRAWN.search(line)]
    assert [line for line in wide if "  " in line.strip() or not line.startswith((" ", "curl "))] == [], (
        "examples alone may be wider"
    )
    assert "launch/" not in re.sub(r"launch/dev\S*", "", text), "the console command was used"


def test_a_script_of_the_clone_names_itself(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["launch/run.py"])
    assert "python launch/run.py --config tiny" in help_of("launch.run", capsys)


def test_prose_is_broken_between_words_and_drawings_stay() -> None:
    text = "one two three four\nfive\n\n  ┌──────────────────────┐\n    spct data FILE    says what is in it\n    spct data   x"
    assert list(fitted_help(text, 20)) == [
        "one two three four",
        "five",
        "",
        "  ┌──────────────────────┐",
        "    spct data FILE",
        "        says what is",
        "        in it",
        "    spct data   x",
    ]


def test_a_parser_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    parser = argparse.ArgumentParser(prog="x", description="word " * 9, formatter_class=HelpFormatter)
    assert all(len(line) <= 30 for line in parser.format_help().splitlines())
