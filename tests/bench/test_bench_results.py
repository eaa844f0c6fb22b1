"""What is kept of measurements, what moved, and the table that is made of it."""

import doctest
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.bench import (
    engine_steps,
    figures,
    fleet_model,
    grpo_step,
    guiding,
    ideal_schedule,
    judging,
    long_run,
    peer,
    results,
    serving,
    start,
)
from tests.bench.__main__ import BENCHES
from tests.bench.side_by_side import Measured, turns

MACHINE = {"cores": 2, "cpu": "Some CPU (R) 7", "memory_gib": 24}
STREAMS = Measured(figure="streams rate", unit="groups/s", ours=(50.0, 66.0, 60.0), against=(100.0, 110.0, 100.0))


def test_a_figure_is_the_median_of_the_ratios_of_each_round() -> None:
    record = STREAMS.record()
    assert (record["value"], record["low"], record["high"]) == (0.6, 0.5, 0.6)
    assert (record["ours"], record["against"], record["rounds"]) == (60.0, 100.0, 3)
    alone = Measured(figure="streams p99", unit="ms", ours=(9.0, 7.0, 8.0)).record()
    assert (alone["value"], alone["against"]) == (8.0, None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"figure": "streams speed"}, "no such figure"),
        ({"against": ()}, "disagree"),
        ({"against": (1.0,)}, "3 rounds of ours, 1 of the other side"),
        ({"ours": (), "against": ()}, "disagree"),
    ],
)
def test_what_is_no_figure_is_refused(changes: dict[str, object], words: str) -> None:
    whole = {"figure": "streams rate", "unit": "groups/s", "ours": (1.0, 2.0, 3.0), "against": (1.0, 1.0, 1.0)}
    with pytest.raises(ValueError, match=words):
        Measured(**whole | changes)


def test_contenders_take_turns_in_an_order_that_turns_round() -> None:
    asked: list[str] = []

    def contender(name: str, values: list[float]) -> Callable[[], float]:
        def measure() -> float:
            asked.append(name)
            return values.pop(0)

        return measure

    found = turns(2, {"a": contender("a", [9, 1, 2]), "b": contender("b", [9, 3, 4])})
    assert "".join(asked) == "baabba"
    assert found == {"a": [1, 2], "b": [3, 4]}, "the warm-up does not count"


def test_a_figure_has_moved_when_the_spreads_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "kind.json"
    results.keep(path, {STREAMS.figure: STREAMS.record()}, of=MACHINE, commit="abc")
    before = results.load(path)["figures"]

    def now(*ours: float) -> list[str]:
        measured = Measured(figure="streams rate", unit="groups/s", ours=ours, against=(100.0,) * len(ours))
        return results.moved(before, {"streams rate": measured.record()})

    assert now(60.0, 70.0) == []
    assert len(now(61.0, 70.0)) == 1
    assert len(now(40.0, 49.0)) == 1
    assert results.moved({}, before) == ["streams rate: new, 0.6"]


def test_figures_that_were_not_measured_again_stay(tmp_path: Path) -> None:
    path = tmp_path / "kind.json"
    alone = Measured(figure="streams p99", unit="ms", ours=(9.0,))
    results.keep(path, {alone.figure: alone.record()}, of=MACHINE, commit="old")
    results.keep(path, {STREAMS.figure: STREAMS.record()}, of=MACHINE, commit="new")
    kept = json.loads(path.read_text())["figures"]
    assert {name: record["commit"] for name, record in kept.items()} == {"streams rate": "new", "streams p99": "old"}


def test_the_table_says_what_is_reached_and_what_was_never_measured(tmp_path: Path) -> None:
    slow = Measured(figure="streams p99", unit="ms", ours=(11.0,))
    results.keep(tmp_path / "kind.json", {m.figure: m.record() for m in (STREAMS, slow)}, of=MACHINE, commit="abc")
    rows = results.document(f"head\n{results.BEGIN}old\n{results.END}\ntail\n", tmp_path)
    assert rows.startswith("head\n")
    assert rows.endswith("tail\n")
    assert "old" not in rows
    assert re.search(r"streams rate.*\| 0.6 \(0.5 to 0.6\): 60 against 100 groups/s, reached; .*, abc \|", rows)
    assert re.search(r"streams p99.*\| 11, \*\*not reached\*\*;", rows)
    assert re.search(r"streams memory.*\| not yet \|", rows)


def test_a_kind_of_machine_has_no_name_of_a_host() -> None:
    assert results.kind(MACHINE) == "2-cores-some-cpu-r-7"
    assert set(results.machine()) == {"cores", "cpu", "memory_gib"}


def test_the_document_has_the_table_of_what_is_stored() -> None:
    text = results.DOCUMENT.read_text()
    assert text == results.document(text), "python -m tests.bench --table writes it"


def test_each_figure_belongs_to_a_bench_that_says_its_method() -> None:
    modules = {name: Path(results.__file__).with_name(f"{name}.py").read_text() for name in BENCHES}
    assert all(f"python -m tests.bench.{name} [--quick]" in text for name, text in modules.items())
    assert {name.partition(" ")[0] for name in figures.FIGURES} == modules.keys()
    for name, text in modules.items():
        assert set(re.findall(r'figure=f?"([a-z_]+) ', text)) == {name}


@pytest.mark.parametrize("module", [start, engine_steps, fleet_model, guiding, ideal_schedule, judging, peer, serving])
def test_examples(module: ModuleType) -> None:
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


def test_a_prompt_that_completions_share_is_counted_once() -> None:
    assert grpo_step.tokens_once(grpo_step.batch(2, samples=2, prompt=3, completion=4)) == 2 * (3 + 4 + 4)


def test_growth_is_that_of_the_last_two_thirds() -> None:
    series = {
        "rollout-0, MiB": [(0, 100.0), (100, 700.0), (400, 700.0), (1000, 712.0), (700, 706.0)],
        "redis, keys": [(400, 12.0), (700, 12.0), (1000, 12.0)],
        "run folder, MB on disk": [(400, 1.0), (1000, 61.0)],
    }
    grown = long_run.growth(series, 1200)
    assert grown == pytest.approx({"rollout-0, MiB": 20.0, "redis, keys": 0.0, "run folder, MB on disk": 100.0})
    assert long_run.exceeded(grown | {"redis, keys": 2.0, "redis, MiB": 20.1}) == [
        "redis, keys: +2.0 in 1,000 steps, at most 1",
        "redis, MiB: +20.1 in 1,000 steps, at most 20",
    ]
