"""What models of each size need, by the plan's own arithmetic: the table of docs/gpu.md.

python -m launch.setup.sizing          prints it
"""

from collections.abc import Callable

from configs.load import load
from configs.schema import Config
from launch.setup.fitting import LORA_RANK
from launch.setup.memory_plan import (
    GB,
    RankMemory,
    Training,
    classifier_rank,
    engine_alone,
    kv_token_bytes,
    policy_rank,
    shared_engine,
)
from launch.setup.model_shape import ModelShape, shape_of
from launch.setup.object_store import GIB, STORE_MARGIN, VERSIONS
from launch.setup.planned_processes import HEADROOM
from launch.setup.published_models import PUBLISHED
from launch.setup.time_plan import Rates, assumed_lengths, decode_rate

WIDTH = 2  # bfloat16
GPU = 85 * GB  # what a card of 80 GB has
MICRO_TOKENS = 8192
ONE_CARD_GROUPS = 8  # in the cache of an engine that shares its GPU
ENGINE_GPUS = (1, 2, 4, 8)
MODELS = tuple(name for name in PUBLISHED if name != "google/gemma-2-27b")  # it has the shape of its instruct model

COLUMNS = (
    "model",
    "parameters, 10^9",
    "cache of a token, kB",
    "engine: GPUs, groups, tokens a second",
    "policy: GPUs, GB each",
    "meta-RM: GPUs, GB each",
    "one GPU, no meta-RM, GB",
    "one GPU, LoRA with a meta-RM, GB",
    "/dev/shm, GiB",
    "checkpoint, GB",
)


def table() -> str:
    """Returns the table, in Markdown."""
    config = load("qwen3-8b", ["rollout.workers=1"])
    rows = [COLUMNS, ("---",) * len(COLUMNS), *(_row(name, config) for name in MODELS)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(name: str, config: Config) -> tuple[str, ...]:
    shape, meta = shape_of(PUBLISHED[name]), shape_of(PUBLISHED[name], scalar_head=True)
    count, token = shape.parameters, kv_token_bytes(shape, WIDTH)
    return (
        f"`{name.rpartition('/')[2]}`",
        f"{count / 1e9:.1f}",
        f"{token / 1000:.0f}",
        _engine(shape, config),
        _fewest(lambda by: policy_rank(shape, by, reference=True)),
        _fewest(lambda by: classifier_rank(meta, by)),
        _one_card(config, policy=shape),
        _one_card(config, policy=shape, meta=meta),
        f"{(VERSIONS * WIDTH * count + STORE_MARGIN) / GIB:.0f}",
        f"{16 * count / GB:.0f}",
    )


def _engine(shape: ModelShape, config: Config) -> str:
    """The fewest GPUs that hold the weights and a few groups, and what they do then: several are taken for one large one."""
    share, group = config.rollout.gpu_memory, assumed_lengths(config).in_flight(config) * kv_token_bytes(shape, WIDTH)
    for gpus in ENGINE_GPUS:
        cache = gpus * engine_alone(shape, width=WIDTH, gpu=GPU, share=share, gpus=gpus).kv_cache
        if cache >= ONE_CARD_GROUPS * group:
            rates = Rates(flops=gpus * Rates().flops, memory=gpus * Rates().memory)
            speed = decode_rate(config, shape, kv_cache=cache, rates=rates)
            return f"{gpus}, {cache / group:.0f}, {round(speed, -2):,.0f}"
    return "over 8"


def _fewest(rank: Callable[[Training], RankMemory]) -> str:
    """The fewest ranks of a learner at ZeRO 3 that fit, a lone one at ZeRO 1."""
    for ranks in range(1, 257):
        by = Training(
            ranks=ranks,
            zero_stage=3 if ranks > 1 else 1,
            micro_tokens=MICRO_TOKENS,
            checkpointing=True,
            width=WIDTH,
            cuda=True,
        )
        if (peak := rank(by).peak) <= HEADROOM * GPU:
            return f"{ranks}, {peak / GB:.0f}"
    return "over 256"


def _one_card(config: Config, *, policy: ModelShape, meta: ModelShape | None = None) -> str:
    """All parts of a run on one GPU: all weights trained, or with a meta-RM adapters of both."""
    by = Training(
        ranks=1,
        zero_stage=1,
        micro_tokens=MICRO_TOKENS,
        checkpointing=True,
        width=WIDTH,
        cuda=True,
        lora_rank=LORA_RANK if meta else 0,
    )
    cache = ONE_CARD_GROUPS * assumed_lengths(config).in_flight(config) * kv_token_bytes(policy, WIDTH)
    engine = shared_engine(policy, width=WIDTH, kv_cache=cache, cuda=True, lora_rank=by.lora_rank)
    learners = policy_rank(policy, by, reference=True).peak + (classifier_rank(meta, by).peak if meta else 0.0)
    return f"{(learners + engine.peak) / GB:.0f}"


if __name__ == "__main__":
    print(table(), end="")
