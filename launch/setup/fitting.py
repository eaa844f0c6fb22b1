"""Which settings make a run fit that does not: each is tried in the plan itself.

not fitting ─▶ one knob that is enough, else all that together are enough, the cheapest first ─▶ words for the error
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

from configs.schema import Config
from launch.setup.memory_plan import WIDTHS, kv_token_bytes
from launch.setup.planned_processes import Shapes, overfull

MOST_RANKS = 1024

Change = tuple[str, Config]
"""A setting as the command line has it, and the config with it."""


def remedy(config: Config, shapes: Shapes, *, machine: float) -> str:
    """Returns what to change so that the plan fits; arguments as of `overfull`."""

    def fits(changed: Config) -> bool:
        return overfull(changed, _shapes(changed, shapes), machine=machine) is None

    for knob in KNOBS:
        for text, changed in knob(config, shapes):
            if fits(changed):
                return f"{text} makes it fit"
    texts: list[str] = []
    so_far = config
    for knob in KNOBS:
        for text, changed in knob(so_far, shapes):
            if fits(changed):
                return f"together make it fit: {', '.join([*texts, text])}"
        if changes := list(knob(so_far, shapes)):
            text, so_far = changes[-1]
            texts.append(text)
    where = "GPUs with more memory (cluster.gpu_memory_gb)" if config.cluster.device == "cuda" else "a larger machine"
    return f"no setting makes it fit; use a smaller model or {where}"


def _checkpointing(config: Config, shapes: Shapes) -> Iterator[Change]:
    if not config.learner.gradient_checkpointing:
        yield _set(config, "learner", gradient_checkpointing=True)


def _micro_tokens(config: Config, shapes: Shapes) -> Iterator[Change]:
    context = config.model.context
    sections = ["learner", *(["meta_rm"] if config.meta_rm.enabled else [])]
    texts = []
    for name in sections:
        if getattr(config, name).micro_tokens > context:
            text, config = _set(config, name, micro_tokens=context)
            texts.append(text)
    if texts:
        yield " ".join(texts), config


def _zero_3(config: Config, shapes: Shapes) -> Iterator[Change]:
    texts = []
    for name in ("learner", "meta_rm"):
        section = getattr(config, name)
        if section.ranks > 1 and section.zero_stage < 3 and getattr(section, "enabled", True):
            text, config = _set(config, name, zero_stage=3)
            texts.append(text)
    if texts:
        yield " ".join(texts), config


def _policy_ranks(config: Config, shapes: Shapes) -> Iterator[Change]:
    """More ranks, of numbers that the batch divides into."""
    if config.cluster.device == "cuda" and not config.cluster.share_gpu and config.learner.zero_stage:
        completions = config.grpo.batch_groups * config.rollout.samples
        for ranks in range(config.learner.ranks + 1, min(MOST_RANKS, completions) + 1):
            if completions % ranks == 0:
                yield _set(config, "learner", ranks=ranks)


def _meta_ranks(config: Config, shapes: Shapes) -> Iterator[Change]:
    if (
        config.cluster.device == "cuda"
        and not config.cluster.share_gpu
        and config.meta_rm.enabled
        and config.meta_rm.zero_stage
    ):
        for ranks in range(config.meta_rm.ranks + 1, MOST_RANKS + 1):
            yield _set(config, "meta_rm", ranks=ranks)


def _kv_cache(config: Config, shapes: Shapes) -> Iterator[Change]:
    """A smaller cache, half at a time, down to that of one group; a larger one where it does not hold a sequence."""
    if config.kv_cache_bytes is None:
        return
    token, r, mib = kv_token_bytes(shapes.policy, WIDTHS[config.dtype]), config.rollout, config.rollout.kv_cache_mb
    group = max(r.orders * config.max_prompt_tokens + r.samples * r.max_new_tokens, config.model.context)
    least = math.ceil(token * group / (1 << 20))
    while mib > 2 * least:
        mib //= 2
        yield _set(config, "rollout", kv_cache_mb=mib)
    if mib != least:
        yield _set(config, "rollout", kv_cache_mb=least)


def _gpu_memory(config: Config, shapes: Shapes) -> Iterator[Change]:
    if config.cluster.device == "cuda" and not config.cluster.share_gpu and config.rollout.gpu_memory < 0.95:
        yield _set(config, "rollout", gpu_memory=0.95)


def _no_meta_rm(config: Config, shapes: Shapes) -> Iterator[Change]:
    if config.meta_rm.enabled:
        yield _set(config, "meta_rm", enabled=False)


KNOBS: tuple[Callable[[Config, Shapes], Iterator[Change]], ...] = (
    _micro_tokens,
    _checkpointing,
    _zero_3,
    _gpu_memory,
    _kv_cache,
    _policy_ranks,
    _meta_ranks,
    _no_meta_rm,
)
"""What can be turned, the cheapest first: less at a time, then more time, then more GPUs, then less of a run."""


def _set(config: Config, section: str, **values: Any) -> Change:
    """A config with some leaves of a section changed."""
    changed = getattr(config, section).model_copy(update=values)
    text = " ".join(f"{section}.{name}={str(value).lower()}" for name, value in values.items())
    return text, config.model_copy(update={section: changed})


def _shapes(config: Config, shapes: Shapes) -> Shapes:
    return shapes if config.meta_rm.enabled else Shapes(policy=shapes.policy, meta_rm=None)
