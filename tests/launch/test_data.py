"""launch/data.py: what it says of data, what it writes, and how soon an error is said."""

import gzip
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grm.sources import load
from launch.data import main
from tests.grm import benchmark_files
from tests.grm.shapes.rows import ASK, BAD, GOOD, PAIRS, SINGLES, chat
from tests.launch.whole_run import ROOT

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(name: str, *rows: dict[str, Any]) -> str:
        path = tmp_path / name
        path.write_bytes("".join(json.dumps(row) + "\n" for row in rows).encode())
        return str(path)

    return written


def pair(number: int, **changes: Any) -> dict[str, Any]:
    return {"prompt": f"{ASK} {number}", "chosen": GOOD, "rejected": BAD} | changes


def test_check_says_what_a_file_holds(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    tie = {"prompt": "q", "responses": ["a", "b"], "scores": [1, 1]}
    data = write("mine.jsonl", *(pair(i) for i in range(6)), tie, pair(7, rejected=""), SINGLES["40 KTO"][0])
    assert main(["check", data]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"data       {data}",
        "shape      7 x chosen and rejected, 1 x our own rows, 1 x KTO",
        "used       7 preferences; 2 rows skipped",
        "skipped    1 x two best labels",
        f"           {data}:7",
        "skipped    1 x unusable field 'rejected'",
        f"           {data}:8: field 'rejected': is empty; give a response, or remove the row",
        "responses  1 x n = 1, 6 x n = 2",
        "labels     0 of 1 single responses are right (0.0%)",
        "labels     place of the best: 0: 100.0% (the order is drawn anew for each judgement)",
        "lengths    the longest is the best in 100.0%, the shortest in 0.0%; by chance 50.0%",
        "beware     length alone says much of what is best: a judge may learn it, and nothing else",
        "queries    7 different ones",
    ]


def test_check_names_what_is_no_row_by_what_is_wrong_with_it(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    data = write("mine.jsonl", *(pair(i) for i in range(3)))
    with Path(data).open("a", encoding="utf-8") as file:
        file.write('{"prompt": \n{"prompt": "q", "chosen": "a", "rejected": "b", "chosen": "c"}\n')
    assert main(["check", data]) == 0
    shapes = "shape      3 x chosen and rejected, 1 x line that is not JSON, 1 x row with a field twice"
    assert capsys.readouterr().out.splitlines()[1] == shapes


def test_check_says_what_stands_in_two_of_its_files(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    """As a run does that is trained on both: contradictions and repeats are found wherever the other row stands."""
    first = write("a.jsonl", *(pair(i) for i in range(3)))
    second = write("b.jsonl", pair(0, chosen=BAD, rejected=GOOD), pair(1), pair(9))
    assert main(["check", first, second]) == 0
    said = capsys.readouterr().out
    assert said.count("skipped    1 x rows with one question and two labels") == 2
    assert said.count(f"skipped    1 x repeated row\n           {second}: b:2\n") == 1
    assert said.count(f"           {first}: a:1: contradicted at {second}: b:1\n") == 1
    assert said.count("used       2 preferences; 1 rows skipped") == said.count("used       1 preferences; 2 rows skipped") == 1


def test_convert_says_why_nothing_is_left(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write("a.jsonl", pair(0), {"prompt": "q", "responses": ["a", "b"], "scores": [1, 1]})
    heldout = write("heldout.jsonl", pair(0))
    assert main(["convert", data, "--without", heldout, "--out", str(tmp_path / "ours.jsonl")]) == 2
    said = capsys.readouterr()
    assert said.out.splitlines() == ["skipped    1 x two best labels", f"left out   1 rows with a query of {heldout}"]
    assert "no preference is left to write: see why rows were skipped or left out, above" in said.err


def test_check_says_what_stands_in_held_out_data(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    data = write("mine.jsonl", *(pair(i, id=f"m{i}") for i in range(4)), pair(0, id="again"))
    heldout = write("heldout.jsonl", pair(1, id="h1", prompt=f"  {ASK.upper()} 1"), pair(2, id="h2", rejected="Saturn."))
    assert main(["check", data, "--against", heldout]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-4:] == [
        "repeated   1 rows say what another one says, under an id of their own",
        f"overlap    1 of 5 stand in {heldout}, 1 more share a query",
        "           the first row: m1 here, h1 there",
        "           the first query: m2 here, h2 there",
    ]


def test_check_finds_what_stands_in_a_benchmark(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By content: no benchmark is part of this program, so its copy is named. Case and spaces do not hide a copy."""
    benchmark_files.array(tmp_path / "rmb" / "RMB_dataset" / "Pairwise_set" / "Helpfulness" / "S1.json", benchmark_files.rmb(0))
    asked = "User: Rephrase 0.\n\nAssistant:  Which way?\n\nUser: POLITELY."
    data = write("mine.jsonl", pair(0), {"prompt": asked, "chosen": "A good ANSWER", "rejected": "a bad one"})
    plain = write("flat.jsonl", pair(0), pair(1), {"prompt": "Say hi to alpacaeval-easy, 0.", "chosen": "Hi", "rejected": "Ho"})
    benchmark_files.jsonl(tmp_path / "rb.jsonl", benchmark_files.reward_bench("alpacaeval-easy"))
    assert main(["check", data, "--against", f"bench:rmb@{tmp_path / 'rmb'}"]) == 0
    assert f"overlap    1 of 2 stand in bench:rmb@{tmp_path / 'rmb'}, 0 more share a query" in capsys.readouterr().out
    assert main(["check", plain, "--against", str(tmp_path / "rb.jsonl")]) == 0
    assert f"overlap    0 of 3 stand in {tmp_path / 'rb.jsonl'}, 1 more share a query" in capsys.readouterr().out


def test_check_counts_prompts_in_the_tokens_of_a_model(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    data = write("mine.jsonl", pair(0, prompt="red fox"), pair(1, prompt="red fox " * 900))
    assert main(["check", data, "--config", "tiny"]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == "tokens     1 of 2 prompts are longer than 192 tokens, which model.context leaves for them"


@pytest.mark.parametrize("name", [*PAIRS, *SINGLES])
def test_what_is_converted_reads_as_the_same_preference(write: Write, tmp_path: Path, name: str) -> None:
    fields = PAIRS[name][0] if name in PAIRS else SINGLES[name][0]
    data, out = write("mine.jsonl", fields), str(tmp_path / "new" / "ours.jsonl")
    assert main(["convert", data, "--out", out]) == 0
    assert load(out).preferences == load(data).preferences


def test_convert_leaves_out_what_is_held_out(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = write("a.jsonl", *(pair(i) for i in range(3))), write("b.jsonl", pair(3), pair(0))
    heldout = write("heldout.jsonl", pair(1), pair(2, rejected="Saturn."))
    out = str(tmp_path / "ours.jsonl")
    assert main(["convert", first, second, "--without", heldout, "--out", out]) == 0
    assert sorted(p.question.query for p in load(out).preferences) == [f"{ASK} 0", f"{ASK} 3"]
    assert capsys.readouterr().out.splitlines() == [
        f"written    2 rows: {out}",
        "skipped    1 x repeated row",
        f"left out   2 rows with a query of {heldout}",
    ]


def test_new_ids_tell_two_files_with_equal_ids_apart(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [write(name, pair(number, id="7")) for number, name in enumerate(("a.jsonl", "b.jsonl"))]
    assert main(["convert", *files, "--out", str(tmp_path / "ours.jsonl")]) == 2
    assert "the id '7' stands in two of the sources; give --new-ids" in capsys.readouterr().err
    assert main(["convert", *files, "--new-ids", "--out", str(tmp_path / "ours.jsonl")]) == 0
    assert len({preference.question.id for preference in load(str(tmp_path / "ours.jsonl")).preferences}) == 2
    heldout = write("heldout.jsonl", pair(1))
    assert main(["convert", *files, "--without", heldout, "--out", str(tmp_path / "less.jsonl")]) == 0
    assert [preference.question.query for preference in load(str(tmp_path / "less.jsonl")).preferences] == [f"{ASK} 0"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["check", "none.jsonl"], "none.jsonl: no such file"),
        (["check", "ties.jsonl"], "no preference can be used"),
        (["check", "--strict", "bad.jsonl"], "bad.jsonl:3: field 'rejected': is empty"),
        (["convert", "bad.jsonl", "--out", "ties.jsonl"], "--out: "),
        (["convert", "ties.jsonl", "--out", "new.jsonl"], "no preference is left to write"),
        (["convert", "bad.jsonl", "--strict", "--out", "new.jsonl"], "bad.jsonl:3: field 'rejected': is empty"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(
    write: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write("ties.jsonl", {"prompt": "q", "responses": ["a", "b"], "scores": [1, 1]})
    write("bad.jsonl", pair(0), pair(1), pair(2, rejected=""))
    assert main(command) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new.jsonl").exists()


def test_a_conversation_that_ends_in_its_answer_is_refused_wherever_it_is_packed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "leak.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps({"messages": chat(GOOD), "chosen": GOOD, "rejected": BAD}).encode()))
    assert main(["check", str(path)]) == 2
    assert "which may be one of the responses and give the label away" in capsys.readouterr().err


HEAVY = ("torch", "transformers", "ray", "vllm", "deepspeed", "wandb", "datasets", "pandas", "numpy")


@pytest.mark.parametrize("entry", ["run", "cold_start"])
def test_an_error_about_data_comes_before_anything_heavy_is_imported(write: Write, tmp_path: Path, entry: str) -> None:
    """Those imports take 10 s and more. What is measured is CPU time: other work on the machine would decide the rest."""
    data = write("bad.jsonl", {"prompt": "q"})
    script = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from launch.{entry} import main
status = main(["--config", "tiny", "data.train={data}", "run.dir={tmp_path / "runs"}"])
print(status, [name for name in {HEAVY!r} if name in sys.modules])
"""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.splitlines()[-1] == "2 []"
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert spent < 3, "seconds of CPU; it is about 1, and a person waits no longer on a machine with nothing else to do"
    assert done.stderr == f"error: {data}:1: field 'responses': is missing; give a list of texts\n"
