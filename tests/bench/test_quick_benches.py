"""Every bench works: its quick form gives each figure that it promises. What the values are means nothing here."""

import pytest

from tests.bench import asynchrony, long_run, streams
from tests.bench.__main__ import run
from tests.bench.side_by_side import Contender, Measured, repeated


def check(found: list[Measured], *figures: str) -> None:
    assert {measured.figure for measured in found} == set(figures)
    assert all(value > 0 for measured in found for value in measured.values)


def test_streams() -> None:
    check(streams.measure(True), "streams rate", "streams p99", "streams memory")


def test_asynchrony() -> None:
    check(asynchrony.measure(True), "asynchrony 0.5 bound", "asynchrony 0.5 law", "asynchrony 0.5 sync")


def test_lengths_are_log_normal_with_their_mean() -> None:
    lengths = [asynchrony.length_s(group, 0.5, 2.0) for group in range(4000)]
    assert 1.9 < sum(lengths) / len(lengths) < 2.1
    below = sum(length < 2.0 * 2.718 ** (-0.125) for length in lengths)
    assert 1800 < below < 2200, "the median is mean · exp(−σ²/2)"
    assert asynchrony.length_s(7, 0.5, 2.0) == lengths[7], "whoever samples it, and at whatever η"


def failing() -> None:
    raise OSError("no room")


def test_a_contender_that_fails_is_named() -> None:
    with pytest.raises(RuntimeError, match="the bad one failed"), Contender("the bad one", failing):
        pass


def test_a_call_that_fails_in_its_thread_is_what_is_raised() -> None:
    with pytest.raises(OSError, match="no room"), repeated(failing):
        raise TimeoutError("waited in vain")


@pytest.mark.slow
def test_grpo_step() -> None:
    check_records("grpo_step")


@pytest.mark.full
@pytest.mark.parametrize("bench", ["rollout", "judging", "weights", "scaling", "start", "guiding", "peer", "fleet", "serving"])
def test_with_engines_or_ray(bench: str) -> None:
    check_records(bench)


FIGURES = {
    "grpo_step": {"grpo_step tiny flops"},
    "judging": {f"judging {k} {what}" for k in (1, 8) for what in ("verdicts", "tokens")},
    "rollout": {"rollout tiny-8x32 same", "rollout tiny-8x32 packed"},
    "weights": {"weights tiny pause", "weights tiny first token", "weights tiny publishing"},
    "scaling": {"scaling 1", "scaling 4"},
    "start": {"start first step", "start seconds"},
    "guiding": {"guiding before", "guiding after"},
    "peer": {"peer seconds", "peer completions"},
    "fleet": {"fleet model", "fleet 1000"},
    "serving": {f"serving {what}" for what in ("rate", "p50", "p99", "memory", "overload")},
}


def check_records(bench: str) -> None:
    records = run(bench, quick=True)
    assert records.keys() == FIGURES[bench]
    assert all(record["value"] > 0 for record in records.values())


@pytest.mark.full
def test_a_long_run_is_looked_at_from_all_sides() -> None:
    series = long_run.run(8)
    processes = {"driver", "rollout-0", "reward-0", "grpo-0", "meta-rm-0"}
    others = {"object store, MiB", "redis, MiB", "redis, keys", "run folder, MB on disk"}
    assert series.keys() == others | {f"{name}, MiB" for name in processes}
    assert {name for name, points in series.items() if max(value for _, value in points) <= 0} == set()
