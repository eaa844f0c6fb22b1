"""Code that lies in a model folder never runs, and nobody is asked whether it may."""

import ast
import io
import json
import shutil
from pathlib import Path

import pytest

from configs.load import ConfigError
from launch.setup.model_files import TINY
from launch.setup.tokenizer import Tokenizer
from learner.models import load_classifier, load_policy, save_model

ROOT = Path(__file__).resolve().parents[3]
CODE = """from pathlib import Path
Path({marker!r}).touch()
from transformers import LlamaConfig as Config, LlamaForCausalLM as Model, PreTrainedTokenizerFast as Tokens
"""


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder whose files ask for classes of its own, and a terminal on which somebody says yes to everything."""
    folder = Path(shutil.copytree(TINY, tmp_path / "model"))
    (folder / "evil.py").write_text(CODE.format(marker=str(tmp_path / "it ran")))
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 99))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody is asked"))
    return folder


def edit(file: Path, **fields: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def test_a_tokenizer_of_its_own_is_refused(hostile: Path, tmp_path: Path) -> None:
    edit(hostile / "tokenizer_config.json", tokenizer_class="Tokens", auto_map={"AutoTokenizer": [None, "evil.Tokens"]})
    edit(hostile / "config.json", model_type="unheard-of")
    edit(hostile / "config.json", auto_map={"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"})
    with pytest.raises(ConfigError, match=r"own Python code .* which is never run"):
        Tokenizer(str(hostile))
    edit(hostile / "config.json", model_type="llama")
    with pytest.raises(ConfigError, match=r"own Python code .* which is never run"):
        Tokenizer(str(hostile))
    assert not (tmp_path / "it ran").exists()


def test_a_model_of_its_own_is_loaded_by_the_librarys_class_or_refused(hostile: Path, tmp_path: Path) -> None:
    mapped = {
        "AutoConfig": "evil.Config",
        "AutoModelForCausalLM": "evil.Model",
        "AutoModelForSequenceClassification": "evil.Model",
    }
    edit(hostile / "config.json", auto_map=mapped)
    model = load_policy(str(hostile), "float32", "cpu")
    assert type(model).__module__.startswith("transformers.")
    assert type(load_classifier(str(hostile), "float32", "cpu")).__module__.startswith("transformers.")
    save_model(model, model.state_dict(), str(hostile), tmp_path / "saved")
    edit(hostile / "config.json", model_type="unheard-of")
    for load in (load_policy, load_classifier):
        with pytest.raises(ValueError, match="trust_remote_code"):
            load(str(hostile), "float32", "cpu")
    assert not (tmp_path / "it ran").exists()


def test_whatever_loads_a_model_refuses_its_code() -> None:
    """transformers asks on the terminal when it is not given."""
    for file in [file for room in ("actors", "launch", "learner") for file in sorted((ROOT / room).rglob("*.py"))]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LOADERS:
                if ast.unparse(node.func.value).startswith("GenerationConfig"):
                    continue  # it has no code
                arguments = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert arguments.get("trust_remote_code") == "False", f"{file}:{node.lineno}"
                if ast.unparse(node.func.value) == "AutoTokenizer":  # a tekken.json beside tokenizer.json is no matter
                    assert arguments.get("mistral_format") == "False", f"{file}:{node.lineno}"


LOADERS = {"from_pretrained", "from_config"}
