"""Which share of the GPUs each part is best given, and that the presets have it."""

import pytest

from configs.load import load
from launch.setup.gpu_split import best_split, better_split, own_split
from launch.setup.model_files import TINY
from launch.setup.planned_processes import Shapes
from launch.setup.resource_plan import planned


def shapes_of(preset: str, *changes: str) -> Shapes:
    config = load(preset, changes)
    return planned(config, config.model.path).shapes


@pytest.mark.parametrize("preset", ["qwen3-8b", "gemma2-27b", "llama3.3-70b"])
def test_no_other_split_of_a_presets_gpus_has_a_better_pace(preset: str) -> None:
    config, shapes = load(preset), shapes_of(preset)
    assert best_split(config, shapes).counts == own_split(config, shapes).counts
    assert better_split(config, shapes) == ""


def test_eight_gpus_for_8b_one_by_one() -> None:
    """Two ranks of either learner do not hold their states, and 384 completions are not divided by five. Three splits are left:
    one engine takes 34.9 s; of the policy three ranks take 35.4 + 0.7, and with one engine and four 26.5 + 0.7."""
    shapes = shapes_of("qwen3-8b")
    paces = {}
    for workers, ranks, meta in ((1, 4, 3), (1, 3, 4), (2, 3, 3)):
        changes = [f"rollout.workers={workers}", f"learner.ranks={ranks}", f"meta_rm.ranks={meta}"]
        split = own_split(load("qwen3-8b", changes), shapes)
        assert best_split(split.config, shapes).counts == (1, 4, 3)
        paces[split.counts] = split.pace
    assert paces[1, 4, 3] == pytest.approx(34.9, abs=0.1)
    assert paces[1, 3, 4] == paces[2, 3, 3] == pytest.approx(36.0, abs=0.1)


def test_a_meta_rm_that_falls_behind_counts_and_is_not_waited_for() -> None:
    """With 14 engines a step would take 17 s, and ten ranks of the meta-RM 38 s for its groups: it would skip half of them."""
    changes = ["rollout.workers=14", "meta_rm.ranks=10"]
    config, shapes = load("gemma2-27b", changes), shapes_of("gemma2-27b", *changes)
    split = own_split(config, shapes)
    assert split.seconds.step == pytest.approx(16.9, abs=0.1)
    assert split.pace == split.seconds.meta_rm == pytest.approx(37.6, abs=0.1)
    assert better_split(config, shapes) == (
        "rollout.workers=9 learner.ranks=32 meta_rm.ranks=15 on the same GPUs would take 26 s a step with the meta-RM keeping"
        " up in place of 38, by formula"
    )


def test_the_plan_notes_a_split_that_is_worth_it() -> None:
    changes = ("meta_rm.enabled=false", "rollout.workers=4")
    config = load("qwen3-8b", changes)
    (note,) = planned(config, config.model.path).notes()
    assert note == "rollout.workers=2 learner.ranks=6 on the same GPUs would take 18 s a step in place of 27, by formula"
    assert planned(load("qwen3-8b", ["meta_rm.enabled=false", "rollout.workers=2"]), config.model.path).notes() == []


def test_what_has_no_gpus_to_share_out_has_no_other_split() -> None:
    for preset, model in (("tiny", str(TINY)), ("qwen3-0.6b-1gpu", "Qwen/Qwen3-0.6B")):
        config = load(preset)
        assert better_split(config, planned(config, model).shapes) == ""
