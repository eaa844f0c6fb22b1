"""Which share of a run's GPUs engines, policy and meta-RM are best given, by the plan's own formulas: every share is tried.

GPUs of the config ─▶ (engines, ranks, ranks of the meta-RM) that fit ─▶ the one with the best pace
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from configs.schema import Config
from launch.setup.gpu_blocks import parts_of
from launch.setup.planned_processes import Shapes, engine_cache, overfull
from launch.setup.time_plan import Rates, StepSeconds, step_seconds

WORTH_SAYING = 1.1  # how many times as long a step takes as with the best split


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """A share for each part."""

    config: Config
    """The run's, with the processes of this share."""
    seconds: StepSeconds
    """What a step takes."""

    @property
    def counts(self) -> tuple[int, int, int]:
        """Engines, ranks of the policy, ranks of the meta-RM (0 without one)."""
        meta = self.config.meta_rm
        return self.config.rollout.workers, self.config.learner.ranks, meta.ranks if meta.enabled else 0

    @property
    def pace(self) -> float:
        """Seconds of a step of which the meta-RM passes over nothing: it is not waited for, and skips what it cannot do."""
        return max(self.seconds.step, self.seconds.meta_rm)

    def settings(self) -> str:
        """Returns its leaves as the command line has them."""
        workers, ranks, meta = self.counts
        return f"rollout.workers={workers} learner.ranks={ranks}" + (f" meta_rm.ranks={meta}" if meta else "")


def own_split(config: Config, shapes: Shapes) -> Split:
    """Returns what the config says itself."""
    cache = engine_cache(config, shapes.policy)
    return Split(config=config, seconds=step_seconds(config, shapes.policy, meta=shapes.meta_rm, kv_cache=cache, rates=Rates()))


def best_split(config: Config, shapes: Shapes) -> Split:
    """Returns the split of as many GPUs as the config takes that has the best pace; the config's own where none is better.

    Args:
        config: The run's, on GPUs of which each process has its own.
        shapes: Its models.
    """
    own = own_split(config, shapes)
    others = (own_split(other, shapes) for other in _others(config, shapes))
    return min([own, *others], key=lambda split: split.pace)  # the first of equals


def better_split(config: Config, shapes: Shapes) -> str:
    """Returns a sentence where another split of the same GPUs is worth it; "" where none is, and where they are not split."""
    if not parts_of(config):
        return ""
    own, best = own_split(config, shapes), best_split(config, shapes)
    if own.pace < WORTH_SAYING * best.pace:
        return ""
    whose = " with the meta-RM keeping up" if shapes.meta_rm is not None else ""
    return (
        f"{best.settings()} on the same GPUs would take {best.pace:.0f} s a step{whose} in place of {own.pace:.0f}, by formula"
    )


def _others(config: Config, shapes: Shapes) -> Iterator[Config]:
    """Yield the config with every other split that fits."""
    r, learner, meta = config.rollout, config.learner, config.meta_rm
    gpus, completions = sum(part.count * part.gpus for part in parts_of(config)), config.grpo.batch_groups * r.samples
    for ranks in (number for number in range(1, min(gpus, completions) + 1) if completions % number == 0):
        for workers in range(1, (gpus - ranks) // r.tensor_parallel + 1):
            left = gpus - ranks - workers * r.tensor_parallel  # all of the meta-RM, where there is one
            if (left < 1) if meta.enabled else left:
                continue
            other = config.model_copy(
                update={
                    "rollout": r.model_copy(update={"workers": workers}),
                    "learner": learner.model_copy(update={"ranks": ranks}),
                    "meta_rm": meta.model_copy(update={"ranks": max(left, 1)}),
                }
            )
            if overfull(other, shapes, machine=math.inf) is None:
                yield other
