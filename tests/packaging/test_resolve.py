"""What is resolved for the other Pythons: the pins as they are read, and the wheels that stand in."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

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
