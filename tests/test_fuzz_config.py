"""Any configuration file and any override ends in a config or in a ConfigError."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.load import PRESETS, ConfigError, load
from configs.schema import Config
from tests.fuzzing import inputs, outcome

Folders = pytest.TempPathFactory
FILES, OVERRIDES = 300, 300  # inputs of each test


NASTY = [
    "1e-6",
    "2001-99-99",
    "2001-01-01",
    "0b_",
    "0x_",
    "0o8",
    "1:99",
    ".nan",
    "-.inf",
    "1e999",
    "9" * 5000,
    "0x" + "f" * 6000,
    "!!int ''",
    "!!bool x",
    "!!timestamp x",
    "!!float x",
    "!!binary x",
    "!!python/object:os.system x",
    "!!set {a}",
    "!!omap [a]",
    "~",
    "[" * 2000,
    "{a: " * 1000,
    "&a [*a]",
    "&a {<<: *a}",
    "*b",
    "<<",
    "? [a]",
    "- x",
    '"\\e[2J"',
    "\u202e",
    "\x85",
    "'",
    "\t",
    "@",
    "tiny:1:2",
    "x" * 5000,
    "/" + "y" * 300,
    "auto",
    "yes",
    "%YAML 3.0",
    "---",
    "...",
    "|",
    ">-",
]


SECTIONS = sorted(Config.model_fields)


LEAVES = sorted({leaf for section in load("tiny").model_dump().values() for leaf in section})


scribbles = st.sampled_from(NASTY) | st.text(max_size=10) | st.integers().map(str) | st.floats().map(str)


branches = st.tuples(
    st.sampled_from(SECTIONS) | scribbles, st.lists(st.tuples(st.sampled_from(LEAVES) | scribbles, scribbles), max_size=4)
).map(lambda pair: f"{pair[0]}:\n" + "".join(f"  {leaf}: {value}\n" for leaf, value in pair[1]))


preset = (PRESETS / "tiny.yaml").read_text(encoding="utf-8")


documents = st.tuples(st.sampled_from(["", preset]), st.lists(branches | scribbles, max_size=4).map("\n".join)).map("".join)


assigned = st.tuples(st.sampled_from(SECTIONS), st.sampled_from(LEAVES), scribbles).map(lambda o: f"{o[0]}.{o[1]}={o[2]}")


@inputs(FILES)
@given(st.binary(max_size=100) | documents.map(lambda text: text.encode("utf-8", "replace")))
def test_a_file_is_a_config_or_a_config_error(tmp_path_factory: Folders, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzzed.yaml"
    file.write_bytes(content)
    outcome(lambda: load(file), ConfigError, most=10_000)


@inputs(OVERRIDES)
@given(
    st.just("tiny") | st.sampled_from(["", ".", "/", "\x00", "x" * 5000, "\x1b[2J"]), st.lists(assigned | scribbles, max_size=3)
)
def test_overrides_are_a_config_or_a_config_error(source: str, overrides: list[str]) -> None:
    outcome(lambda: load(source, overrides), ConfigError, most=10_000)
