"""What a value on a command line or in a file means: what is written there."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import config_yaml
from configs.load import ConfigError, dump, load

# what YAML would cut, turn, or refuse
TEXTS = (
    *("2026-11-27", "1_000", "010", "0o17", "1e5", "1:30", "on", "yes", "no", "null", "true", ".inf", "~x", "="),
    *("a #b", "a: b", "- a", "{a", "'", '"a', "!x", "&a", "*a", "%a", "@a", '"a" and "b"', '"a" #"'),
)
NUMBERS = {
    **{"1_000": 1000, "-5": -5, "+7": 7, "0": 0, "0x1F": 31},
    **{"1e-6": 1e-6, "5E4": 5e4, "1.": 1.0, ".5": 0.5, "1.5e3": 1500.0, "-.inf": float("-inf")},
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_what_stands_there(text: str, tmp_path: Path) -> None:
    config = load("tiny", [f"tracking.project={text}", f"data.train={text}", f"cold_start.general={text}"])
    assert (config.tracking.project, config.data.train, config.cold_start.general) == (text, [text], [text])
    file = tmp_path / "copy.yaml"
    file.write_text(dump(config), encoding="utf-8")
    assert load(file) == config


@pytest.mark.parametrize(("text", "value"), [('"a #b"', "a #b"), ("'it''s'", "it's"), ('"\\u00e9"', "é"), ('""', "")])
def test_quotes_around_all_of_it_are_taken_off(text: str, value: str) -> None:
    config = load("tiny", [f"tracking.project={text}", f"data.train={text}", f"data.heldout=[{text}, x]"])
    assert (config.tracking.project, config.data.train, config.data.heldout) == (value, [value], [value, "x"])


def test_a_list_of_texts_holds_texts() -> None:
    config = load("tiny", ["data.train=[2026-11-27, on, 010, a b, 'c, d']", "cold_start.general="])
    assert config.data.train == ["2026-11-27", "on", "010", "a b", "c, d"]
    assert config.cold_start.general == []


def test_words_that_yaml_takes_for_a_switch_are_words() -> None:
    with pytest.raises(ConfigError, match=r"tracking\.mode: .*found 'off'"):
        load("tiny", ["tracking.mode=off"])
    assert load("tiny", ["meta_rm.enabled=off"]).meta_rm.enabled is False


@pytest.mark.parametrize("text", ["010", "1:30", "0b11", "0o17", "2026-11-27"])
@pytest.mark.parametrize("place", ["command line", "file"])
def test_a_number_that_yaml_would_turn_is_refused(text: str, place: str, tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    seed = f"run: {{seed: {text}}}\n" if place == "file" else ""
    file.write_text('model: {path: tiny, context: 256}\ndata: {train: ["tiny:1:9"], heldout: ["tinyheld:1:9"]}\n' + seed)
    with pytest.raises(ConfigError, match=rf"run\.seed: .*integer.*found '{text}'"):
        load(file, [f"run.seed={text}"] if place == "command line" else [])


@pytest.mark.parametrize(("text", "value"), NUMBERS.items())
def test_numbers_are_read(text: str, value: float) -> None:
    assert config_yaml.read(text) == value
    assert type(config_yaml.read(text)) is type(value)


@given(st.text() | st.from_regex(r"[-+]?[0-9_.:exXab]{1,6}", fullmatch=True))
def test_a_text_survives_a_file(text: str) -> None:
    assert config_yaml.read(config_yaml.write({"a": text, "b": [text]})) == {"a": text, "b": [text]}


@given(st.floats(allow_nan=False) | st.integers())
def test_a_number_survives_a_file(number: float) -> None:
    assert config_yaml.read(config_yaml.write({"a": number})) == {"a": number}
