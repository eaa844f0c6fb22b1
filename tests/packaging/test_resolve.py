"""What is resolved for the other Pythons: the pins as they are read, and the wheels that stand in."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "packaging"
sys.path.insert(0, str(FOLDER))  # as when it is called: a script on its own
import resolve  # noqa: E402


def test_pins_are_read_by_normalised_name() -> None:
    text = "# all\nMarkupSafe==3.0\nray[default]==2.60.0\nast_serialize==0.1 ; python_version < '3.12'\nwanted>=1\n"
    assert resolve.pins(text) == {"markupsafe": "3.0", "ray": "2.60.0", "ast-serialize": "0.1"}


def test_a_stand_in_is_empty_and_wants_what_the_installed_one_wants(tmp_path: Path) -> None:
    assert resolve.stand_in("triton", tmp_path).startswith("triton==3")
    pin = resolve.stand_in("torch", tmp_path)
    (file,) = tmp_path.glob("torch-*.whl")
    with zipfile.ZipFile(file) as wheel:
        assert {Path(name).name for name in wheel.namelist()} == {"METADATA", "WHEEL", "RECORD"}
        text = wheel.read(wheel.namelist()[0]).decode()
    assert f"Version: {pin.removeprefix('torch==')}\n" in text
    assert "Requires-Dist: sympy" in text


OLD, NEW = ((3, 11), "x86_64"), ((3, 13), "x86_64")


def test_the_pythons_agree_on_versions_in_a_second_round() -> None:
    """The oldest Python would take release 9 of a, of which the newest has no wheel: both take 8."""
    wheels = {OLD: {"a": ["9", "8"], "b": ["2", "1"], "only-old": ["1"]}, NEW: {"a": ["8"], "b": ["2", "1"]}}

    def compiled(place: resolve.Place, preferred: Mapping[str, str]) -> dict[str, str]:
        return {name: preferred[name] if preferred.get(name) in found else found[0] for name, found in wheels[place].items()}

    assert resolve.agreed({"b": "1", "unused": "5"}, compiled, [OLD, NEW]) == {"a": "8", "b": "1", "only-old": "1"}


def test_what_they_never_agree_on_is_named() -> None:
    wheels = {OLD: {"a": "1", "b": "3"}, NEW: {"a": "2", "b": "3"}}
    with pytest.raises(SystemExit, match=r"no version that every Python takes: bound it in pyproject.toml: a$"):
        resolve.agreed({}, lambda place, _: wheels[place], [OLD, NEW])


def test_the_constraints_of_gpus_are_a_pin_a_line() -> None:
    text = resolve.constraints_text({"b": "2", "a": "1"})
    assert text == f"{resolve.GPU_HEAD}a==1\nb==2\n"
    assert resolve.pins(text) == {"a": "1", "b": "2"}
