"""The evaluation as a user starts it, against a fake server: what is refused, what is judged once, what is written."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from configs.load import load
from launch.evaluate import main
from launch.judging import votes
from launch.setup.judge_settings import settings_files, settings_of
from launch.setup.model_files import TINY
from launch.setup.tokenizer import Tokenizer
from learner import checkpoint
from tests.launch.evaluation import ROWS, meta_rm, reply, rows
from tests.launch.judging.fake_server import FakeServer, failure
from tests.launch.whole_run import ROOT


@pytest.fixture
def server(judge_server: FakeServer) -> FakeServer:
    judge_server.reply = reply
    return judge_server


@pytest.fixture
def started(server: FakeServer, tmp_path: Path) -> Callable[..., int]:
    """The evaluation of ROWS by the fake server; more options may be given."""
    data = rows(tmp_path / "data.jsonl", *ROWS)
    usual = ["--endpoint", server.url, "--model", "judge", "--data", data, "--k", "1,2,4", "--out", str(tmp_path / "out")]
    return lambda *more: main([*usual, "tracking.mode=disabled", *more])


# ---- before anything starts ------------------------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], argv: Sequence[str]) -> str:
    """The one sentence of an exit status 2."""
    status = main(argv)
    errors = capsys.readouterr().err
    assert status == 2, errors
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    return errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "nowhere.jsonl"], "nowhere.jsonl: no such file"),
        (["--data", "rollout.workers=2"], "data.heldout"),
        (["--endpoint", "localhost:8000"], "this is no address; give it as http://host:port/v1"),
        (["--endpoint", "http://127.0.0.1:1/v1"], "no connection"),
        (["--model", "jugde"], "the server does not serve this model, it serves judge"),
        (["--endpoint", "", "--model", "./nowhere"], "has no config.json"),
        (["--meta-rm", "./nowhere"], "has no config.json"),
        (["--config", "nothing"], "no such file or preset; presets are gemma2-27b, "),
        (["rollout.wrokers=2"], "did you mean rollout.workers?"),
        (["--k", "4,2"], "give each k once, in ascending order"),
        (["--k", "0,1"], "eval.votes.0"),
        (["--k", "many"], "eval.votes.0"),
        (["prompts.template_path=nowhere.txt"], "no such file"),
    ],
)
def test_what_cannot_work_is_refused(
    options: list[str], message: str, started: Callable[..., int], server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert started(*options) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert message in errors
    assert server.asked == []


def test_a_password_in_the_address_is_in_no_file(
    started: Callable[..., int], server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert started("--endpoint", server.url.replace("//", "//user:hidden@")) == 2
    said = capsys.readouterr()
    assert "the address holds a user name or a password; set OPENAI_API_KEY to the key" in said.err
    assert "hidden" not in said.out + said.err
    assert not (tmp_path / "out").exists()


def test_a_subset_cannot_be_named_as_the_last_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = rows(tmp_path / "d.jsonl", {**ROWS[0], "subset": "overall"})
    assert "a subset is named 'overall'" in refused(capsys, ["--model", "tiny", "--data", data])


def test_ids_of_two_files_must_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = {"id": "p", "prompt": "q", "chosen": "x", "rejected": "y"}
    first, second = rows(tmp_path / "a" / "d.jsonl", pair), rows(tmp_path / "b" / "d.jsonl", {**pair, "prompt": "r"})
    message = f"preference id 'p' occurs twice, in data.heldout ({first}) and in data.heldout ({second})"
    assert message in refused(capsys, ["--model", "tiny", "--data", first, second])


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = rows(tmp_path / "d.jsonl", *ROWS), tmp_path / "d.jsonl" / "out"
    assert f"--out: cannot make {out}: Not a directory" in refused(
        capsys, ["--config", "tiny", "--model", "tiny", "--data", data, "--out", str(out)]
    )


def test_a_judge_and_a_meta_rm_whose_files_are_not_whole_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], server: FakeServer
) -> None:
    folder, data = Path(shutil.copytree(TINY, tmp_path / "model")), rows(tmp_path / "d.jsonl", *ROWS)
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-1])
    out = ["--data", data, "--out", str(tmp_path / "out"), "tracking.mode=disabled"]
    whole = refused(capsys, ["--config", "tiny", "--model", str(folder), *out])
    assert f"model.path: {folder}/model.safetensors is not whole" in whole
    config = json.loads((folder / "config.json").read_text()) | {"architectures": ["LlamaForSequenceClassification"]}
    (folder / "config.json").write_text(json.dumps(config))
    judged = ["--endpoint", server.url, "--model", "judge", "--meta-rm", str(folder), *out]
    assert f"--meta-rm: {folder}/model.safetensors is not whole" in refused(capsys, judged)
    shutil.copy(TINY / "model.safetensors", folder)
    (folder / "chat_template.jinja").write_text("no message")
    assert "--meta-rm: no prompt can be made with the model's chat template" in refused(capsys, judged)
    assert server.asked == []


def test_a_meta_rm_as_the_judge_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, data = Path(shutil.copytree(TINY, tmp_path / "model")), rows(tmp_path / "d.jsonl", *ROWS)
    settings = settings_of(load("tiny"), [], Tokenizer(str(TINY))).model_copy(update={"kind": "meta-rm"})
    for name, text in settings_files(settings).items():
        (folder / name).write_text(text)
    said = refused(capsys, ["--model", str(folder), "--data", data, "--out", str(tmp_path / "out"), "tracking.mode=disabled"])
    assert f"{folder}: is a meta-RM, which writes no judgements; name it as --meta-rm, beside its judge" in said
    assert not (tmp_path / "out").exists()


def test_rows_without_a_label_are_counted(
    started: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = rows(tmp_path / "ties.jsonl", ROWS[0], {"prompt": "q", "responses": ["x", "y"], "scores": [4, 4]})
    assert started("--data", data) == 0
    assert "skipped    1 x two best labels" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "table.json").read_text())["skipped"] == {"two best labels": 1}
    assert "1 x two best labels" in (tmp_path / "out" / "report.html").read_text()


def test_the_entry_imports_no_engine() -> None:
    """They take seconds to import, and an endpoint needs none."""
    script = "import sys, launch.evaluate; print({'ray', 'torch', 'transformers', 'vllm', 'wandb'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "set()\n"


# ---- to the end ------------------------------------------------------------------------------------------------------


def test_an_evaluation_to_its_end(
    started: Callable[..., int], server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert started() == 0
    out = tmp_path / "out"
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "judged 6 of 6 preferences, 4 votes each" in lines
    assert any(re.fullmatch(r"shares in % +overall \(6\) +95 % interval", line) for line in lines)
    assert any(re.fullmatch(r"greedy +75.0 +25.0 .. 100.0", line) for line in lines)
    assert any(re.fullmatch(r"auc_vote@4 +100.0 +100.0 .. 100.0", line) for line in lines)
    heads = [line.removeprefix("shares in %").strip() for line in lines]
    assert [line.split("  ")[0] for line in heads if re.match(r"(easy|single|trap|overall|overall, micro) \(", line)] == [
        "overall (6)",
        "easy (2)",
        "single (2)",
        "trap (2)",
        "overall, micro (6)",
    ]
    assert f"written    {out}" in lines
    assert {file.name for file in out.iterdir()} == {
        "judgements.jsonl",
        "judge_outputs.jsonl",
        "values.jsonl",
        "table.json",
        "report.html",
        "config.yaml",
        "metrics.jsonl",
    }
    written = json.loads((out / "table.json").read_text())
    assert (written["model"], written["meta_rm"], written["data"]) == ("judge", "", [str(tmp_path / "data.jsonl")])
    assert written["failed"] == {}
    assert {name: subset["rows"] for name, subset in written["subsets"].items()} == {
        "easy": 2,
        "single": 2,
        "trap": 2,
        "overall": 6,
    }
    figures = written["subsets"]["overall"]["figures"]
    assert (figures["greedy"]["value"], figures["greedy"]["rows"], figures["auc_greedy"]["value"]) == (0.75, 4, 1.0)
    assert figures["parse_rate"]["value"] == 1.0
    assert 0 < figures["vote_parse_rate"]["value"] < 1
    assert {name for name in figures if "@" in name and "vote" in name and "lost" not in name} == {
        f"{kind}@{k}" for kind in ("vote", "auc_vote", "votes_needed") for k in (1, 2, 4)
    }
    (record,) = [json.loads(line)["metrics"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert (record["eval/accuracy@1"], record["eval/parse_rate@1"], record["eval/consistency@1"]) == (0.75, 1.0, 1.0)
    assert {"eval/accuracy@2", "eval/accuracy@4"} < record.keys()
    asked = [json.loads(line) for line in (out / "judge_outputs.jsonl").read_text().splitlines()]
    assert sorted((row["prompt"], row["results"]) for row in asked) == [("q one", 1), ("q three", 0), ("q two", 1)]
    assert sum(body["n"] for body in server.asked) == 6 * 4 + 4 * 2 + 2, "pairs and more are judged greedily in both orders"
    assert {body["max_tokens"] for body in server.asked} == {1024}


def test_a_second_start_asks_nothing_and_writes_the_same(
    started: Callable[..., int], server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert started() == 0
    table, output, asked = (tmp_path / "out" / "table.json").read_text(), capsys.readouterr().out, len(server.asked)
    assert started() == 0
    assert len(server.asked) == asked
    assert (tmp_path / "out" / "table.json").read_text() == table
    day = json.loads((tmp_path / "out" / "table.json").read_text())["answers"]["dates"][0]
    standing = f"all 6 preferences stand already (judged on {day}), nothing was asked; another --out judges anew"
    without_count = re.sub(r"(asked|asking|judging) .*\n", "", output)
    assert capsys.readouterr().out == without_count.replace("judged 6 of 6 preferences, 4 votes each", standing)


def test_a_second_start_with_other_settings_is_refused(
    started: Callable[..., int], server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert started() == 0
    asked = len(server.asked)
    assert started("eval.temperature=0.9", "--k", "1,2") == 2
    assert "judgements.jsonl was begun with another temperature: use another folder" in capsys.readouterr().err
    assert started("eval.both_orders=false") == 2
    assert "judgements.jsonl was begun with another both_orders: use another folder" in capsys.readouterr().err
    assert len(server.asked) == asked


def test_judgements_whose_orders_were_drawn_one_by_one_are_not_mixed_with_balanced_ones(
    started: Callable[..., int], server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As older versions wrote them, without a word about orders."""
    assert started() == 0
    head, *lines = (tmp_path / "out" / "judgements.jsonl").read_text().splitlines()
    settings = {name: value for name, value in json.loads(head)["settings"].items() if "orders" not in name}
    (tmp_path / "out" / "judgements.jsonl").write_text("\n".join([json.dumps({"settings": settings}), *lines]) + "\n")
    asked = len(server.asked)
    assert started() == 2
    assert "judgements.jsonl was begun with another both_orders, orders: use another folder" in capsys.readouterr().err
    assert len(server.asked) == asked


def test_what_cannot_judge_is_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    usual = ["--model", "tiny", "--data", "tinyheld:3:4", "--out", str(out)]
    assert main(usual) == 2
    assert "model.context = 4096 is over the model's own limit of" in capsys.readouterr().err
    assert main([*usual, "--config", "tiny", "--meta-rm", str(TINY)]) == 2
    assert "a LlamaForCausalLM, which scores nothing; give a meta-RM's folder" in capsys.readouterr().err
    untrained = meta_rm(tmp_path / "meta-rm", version=0)
    assert main([*usual, "--config", "tiny", "--meta-rm", str(untrained)]) == 2
    assert f"--meta-rm: {untrained} took no step in its run, so its scores mean nothing" in capsys.readouterr().err
    (untrained.parent / checkpoint.RECORD).write_text("{")
    assert main([*usual, "--config", "tiny", "--meta-rm", str(untrained)]) == 2
    error = capsys.readouterr().err
    assert "error: --meta-rm: " in error
    assert "record.json cannot be read" in error
    monkeypatch.setenv("WANDB_MODE", "shared")
    assert main([*usual, "--config", "tiny"]) == 2
    assert "WANDB_MODE='shared'" in capsys.readouterr().err
    assert not out.exists()


def test_data_in_a_partition_folder_is_judged(
    started: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows(tmp_path / "dt=2026" / "x.jsonl", *ROWS)
    monkeypatch.chdir(tmp_path)
    assert started("--data", "dt=2026/x.jsonl") == 0
    assert json.loads((tmp_path / "out" / "table.json").read_text())["data"] == [str(tmp_path / "dt=2026" / "x.jsonl")]


def test_one_greedy_judgement_without_votes(started: Callable[..., int], server: FakeServer, tmp_path: Path) -> None:
    assert started("--k", "0", "eval.both_orders=false") == 0
    assert len(server.asked) == 6
    figures = json.loads((tmp_path / "out" / "table.json").read_text())["subsets"]["overall"]["figures"]
    assert not any("vote" in name for name in figures)


def test_a_failed_item_is_named_and_asked_again(
    started: Callable[..., int], server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.reply = lambda body: failure(400, "too long") if "q two" in body["messages"][0]["content"] else reply(body)
    assert started() == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("failed")]
    assert re.match(r"failed     1 of 6 preferences got no answer; the first, p2: .*HTTP 400: too long; ", line)
    written = json.loads((tmp_path / "out" / "table.json").read_text())
    assert list(written["failed"]) == ["p2"]
    assert written["subsets"]["overall"]["rows"] == 5
    assert "1 preference got no answer." in (tmp_path / "out" / "report.html").read_text()
    server.reply, asked = reply, len(server.asked)
    assert started() == 0
    probe, *others = server.asked[asked:]
    assert probe["temperature"] == 0.0
    assert {"q two" in body["messages"][0]["content"] for body in others} == {True}


def test_no_answer_at_all_is_an_error(
    started: Callable[..., int], server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.reply = lambda body: failure(400, "too long")
    assert started() == 2
    assert "error: none of 6 preferences was judged; the first error: " in capsys.readouterr().err


def test_an_interrupted_evaluation_prints_how_to_go_on(
    started: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*values: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(votes, "collect", interrupted)
    assert started() == 130
    assert capsys.readouterr().err == "stopped; start it again with the same --out to go on\n"
