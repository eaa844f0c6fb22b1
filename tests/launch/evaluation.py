"""An evaluation as a user starts it, with a fake server as its judge; and the meta-RM's folder that it may name."""

import json
import re
from pathlib import Path
from typing import Any

from learner import checkpoint
from tests.launch.judging.fake_server import Reply, completion

SHOWN = re.compile(r"\[The Begin of Response \d+\]\n(.*)\n\[The End of Response")
ROWS: list[dict[str, Any]] = [
    {"id": "p1", "prompt": "q one", "responses": ["a good answer", "a bad one"], "preferred": 0, "subset": "easy"},
    {"id": "p2", "prompt": "q two", "responses": ["a bad one", "a good answer"], "preferred": 1, "subset": "easy"},
    {"id": "p3", "prompt": "q three", "chosen": "a bad one", "rejected": "a good answer", "subset": "trap"},
    {"id": "p4", "prompt": "q four", "responses": ["bad", "bad too", "a good answer"], "preferred": 2, "subset": "trap"},
    {"id": "s1", "prompt": "q five", "responses": ["a good answer"], "scores": [1], "subset": "single"},
    {"id": "s2", "prompt": "q six", "responses": ["a bad one"], "scores": [0], "subset": "single"},
]


def reply(body: dict[str, Any]) -> Reply:
    """9 for what is called good, else 2; one vote in five, by its seed, does not keep the format."""
    message = body["messages"][0]["content"]
    scores = ", ".join("9" if "good" in shown else "2" for shown in SHOWN.findall(message))
    broken = [body["temperature"] > 0 and (body["seed"] + i) % 5 == 0 for i in range(body["n"])]
    return completion(*("?" if bad else f"Scores: \\boxed{{{scores}}}" for bad in broken), tokens=7 * body["n"])


def rows(file: Path, *dicts: dict[str, Any]) -> str:
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in dicts), encoding="utf-8")
    return str(file)


def meta_rm(folder: Path, *, version: int) -> Path:
    """The model folder of a checkpoint of a meta-RM."""
    model = checkpoint.begin(folder, version) / "model"
    model.mkdir()
    (model / "config.json").write_text('{"architectures": ["LlamaForSequenceClassification"]}')
    return checkpoint.commit(folder, checkpoint.Record(version=version, entries=(), ranks=1, zero_stage=1), keep=1) / "model"
