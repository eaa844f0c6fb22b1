"""Seconds of an optimiser step by formula: generation, training, publishing, and which side waits. An estimate, on GPUs only.

    generation    completions x tokens / (engines x tokens a second), and the prompts once
                  a decode step reads all weights, and the cache of every sequence:  max(bytes / bandwidth, FLOP / rate)
    training      tokens x P x FLOP / (ranks x rate):  2 P forward, 4 P backward, 2 P again with checkpointing, 2 P reference;
                  with LoRA 2 P backward, as the frozen weights have no gradient
    publishing    bytes of what is trained / copy, while the learner waits; checksum and store come beside the next step

Attention is left out: at 2,000 tokens it adds less than a tenth.
"""

from dataclasses import dataclass

from configs.schema import Config
from launch.setup.memory_plan import WIDTHS, kv_token_bytes
from launch.setup.model_shape import ModelShape

PROMPT_TOKENS, COMPLETION_TOKENS = 1300, 700  # of a judgement of two responses; the config's limits where these are smaller


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """What an H100 does in practice."""

    flops: float = 400e12
    """FLOP a second in bfloat16, of 989e12 at best."""
    memory: float = 3.35e12
    """Bytes a second between the GPU and its memory."""
    copy: float = 25e9
    """Bytes a second from the GPU into page-locked memory of the host, over PCIe, of 63e9 at best."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lengths:
    """Tokens that are assumed of a group."""

    prompt: int
    """Of a prompt."""
    completion: int
    """Of a completion."""

    def in_flight(self, config: Config) -> float:
        """Returns the tokens that the KV cache holds of a group in the middle: its prompts, and half of each completion."""
        return config.rollout.orders * self.prompt + config.rollout.samples * self.completion / 2

    def trained(self, config: Config) -> int:
        """Returns the tokens of a group that the learners compute: completions share their prompt."""
        return config.rollout.orders * self.prompt + config.rollout.samples * self.completion


def assumed_lengths(config: Config) -> Lengths:
    """Returns the lengths that are assumed, within the config's limits."""
    return Lengths(
        prompt=min(PROMPT_TOKENS, config.max_prompt_tokens),
        completion=min(COMPLETION_TOKENS, config.rollout.max_new_tokens),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class StepSeconds:
    """Seconds of the parts of an optimiser step."""

    generation: float
    """All engines, for the groups of a step."""
    training: float
    """All ranks of the policy's learner."""
    publishing: float
    """Rank 0, while the others wait."""
    meta_rm: float
    """All ranks of the meta-RM, for the same groups; 0 without one. Nobody waits for it: it passes over what it cannot do."""
    one_gpu: bool
    """Whether all of them share a GPU."""
    in_turn: bool
    """Whether generation waits for the new weights (`grpo.max_staleness` 0)."""

    @property
    def learner(self) -> float:
        """The learner's side."""
        return self.training + self.publishing

    @property
    def slower(self) -> str:
        """The side that the other waits for."""
        return "generation" if self.generation > self.learner else "training"

    @property
    def step(self) -> float:
        """A whole step."""
        if self.one_gpu:
            return self.generation + self.learner + self.meta_rm
        return self.generation + self.learner if self.in_turn else max(self.generation, self.learner)


def step_seconds(config: Config, shape: ModelShape, *, meta: ModelShape | None, kv_cache: float, rates: Rates) -> StepSeconds:
    """Returns what a step takes.

    Args:
        config: The run's.
        shape: The policy's.
        meta: The meta-RM's; None without one.
        kv_cache: Bytes of an engine's KV cache, on all of its GPUs together.
        rates: Of the machine.
    """
    g, r, lengths, again = config.grpo, config.rollout, assumed_lengths(config), config.learner.gradient_checkpointing
    tokens = g.batch_groups * lengths.trained(config)
    adapters = config.learner.lora_rank * shape.linear
    backward = (4 if adapters else 6) + 2 * again  # FLOP of a parameter and token, the forward pass included
    prefill = g.batch_groups * r.orders * lengths.prompt * 2 * shape.active / (r.tensor_parallel * rates.flops)
    decoded = g.batch_groups * r.samples * lengths.completion / decode_rate(config, shape, kv_cache=kv_cache, rates=rates)
    training = tokens * shape.active * (backward + 2 * (g.beta > 0)) / (config.learner.ranks * rates.flops)
    published = WIDTHS[config.dtype] * (adapters or shape.parameters)
    return StepSeconds(
        generation=(prefill + decoded) / r.workers,
        training=training,
        publishing=published / rates.copy,
        meta_rm=tokens * meta.active * backward / (config.meta_rm.ranks * rates.flops) if meta is not None else 0.0,
        one_gpu=config.cluster.share_gpu,
        in_turn=g.max_staleness == 0,
    )


def decode_rate(config: Config, shape: ModelShape, *, kv_cache: float, rates: Rates) -> float:
    """Returns the tokens a second of an engine that is kept busy: as many sequences at a time as it may take on, has room for,
    and finds groups for."""
    r, lengths, width = config.rollout, assumed_lengths(config), WIDTHS[config.dtype]
    memory, flops = r.tensor_parallel * rates.memory, r.tensor_parallel * rates.flops  # links between them are left out
    each = kv_token_bytes(shape, width)
    groups = min(r.max_groups, kv_cache / (each * lengths.in_flight(config)), config.credit / r.workers)
    sequences = r.samples * max(groups, 1 / r.samples)
    read = width * shape.parameters + sequences * (lengths.prompt + lengths.completion / 2) * each
    return sequences / max(read / memory, 2 * shape.active * sequences / flops)
