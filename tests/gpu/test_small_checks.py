"""The checks of a card's learner on a CPU: the same functions, with tiny shapes."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.gpu.check import ROOT
from tests.gpu.small import passes


@pytest.mark.parametrize("part", ["head", "attention", "precision", "step", "optimiser"])
def test_on_a_small_model_it_passes(part: str, tmp_path: Path) -> None:
    module: Any = import_module(f"tests.gpu.{part}_checks")
    with module.prepared("cpu", tmp_path) as subject:
        for check in module.CHECKS:
            passes(check, subject)


# Imports a part where some packages are not to be found.
ALONE = """
import importlib, sys
module, *absent = sys.argv[1:]
class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, *more):
        return None if name.partition(".")[0] in absent else self.finder.find_spec(name, *more)
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path[:] = map(Without, sys.meta_path)
importlib.import_module("tests.gpu.check"), importlib.import_module(f"tests.gpu.{module}")
"""
HEAVY = ("deepspeed", "msgpack", "pydantic", "redis", "ray", "vllm", "peft", "accelerate", "pytest")


@pytest.mark.parametrize(("module", "absent"), [("head_checks", (*HEAVY, "transformers", "yaml")), ("attention_checks", HEAVY)])
def test_two_parts_run_where_there_is_little_beside_torch(module: str, absent: tuple[str, ...]) -> None:
    command = [sys.executable, "-c", ALONE, module, *absent]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
