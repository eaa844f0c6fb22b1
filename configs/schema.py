"""The configuration: every leaf, its type, its range, and the laws between leaves, checked before anything starts.

    sections.py   leaves with type, range, default and description; grpo_section.py those of `grpo`
    laws.py       what leaves must be together
    schema.py     all sections as one `Config`, and what follows from them

Two levels deep: a section and its leaves. What follows from other values is a property, never a leaf.
"""

from typing import Literal, Self

from pydantic import model_validator

from configs import laws
from configs.grpo_section import GRPOConfig
from configs.sections import (
    ClusterConfig,
    ColdStartConfig,
    DataConfig,
    EvalConfig,
    LearnerConfig,
    MetaRMConfig,
    ModelConfig,
    PromptsConfig,
    RedisConfig,
    RolloutConfig,
    RunConfig,
    Section,
    TrackingConfig,
    WaitsConfig,
)


class Config(Section):
    """A whole configuration, checked."""

    run: RunConfig = RunConfig()
    model: ModelConfig
    data: DataConfig
    prompts: PromptsConfig = PromptsConfig()
    cold_start: ColdStartConfig = ColdStartConfig()
    rollout: RolloutConfig = RolloutConfig()
    grpo: GRPOConfig = GRPOConfig()
    learner: LearnerConfig = LearnerConfig()
    meta_rm: MetaRMConfig = MetaRMConfig()
    eval: EvalConfig = EvalConfig()
    redis: RedisConfig = RedisConfig()
    cluster: ClusterConfig = ClusterConfig()
    tracking: TrackingConfig = TrackingConfig()
    waits: WaitsConfig = WaitsConfig()

    @property
    def credit(self) -> int:
        """Groups that may be outstanding: (eta + 1) * B, the law of I2."""
        return (self.grpo.max_staleness + 1) * self.grpo.batch_groups

    @property
    def sampling_credit(self) -> int:
        """Groups per worker that may be outstanding where nothing is trained: twice what an engine holds, so that no worker
        waits and Redis holds no more than that."""
        return 2 * self.rollout.max_groups

    @property
    def heartbeat_interval_s(self) -> float:
        """Seconds between two heartbeats of a process, each of which renews its claims: a quarter of the time after which
        its claims lapse, and of the time after which it counts as dead."""
        return min(self.redis.claim_timeout_s, self.waits.heartbeat_s) / 4

    @property
    def max_prompt_tokens(self) -> int:
        """Longest prompt, in tokens: what the completion leaves of the context."""
        return self.model.context - self.rollout.max_new_tokens

    @property
    def dtype(self) -> Literal["float32", "bfloat16"]:
        """Number format of the weights, `auto` resolved by the device."""
        if self.model.dtype == "auto":
            return "float32" if self.cluster.device == "cpu" else "bfloat16"
        return self.model.dtype

    @property
    def kv_cache_bytes(self) -> int | None:
        """KV cache of an engine, in bytes; None where it takes a share of a GPU of its own. On a GPU that it shares it must not
        measure what is free, as others take memory meanwhile."""
        shares = self.cluster.device == "cpu" or self.cluster.share_gpu
        return self.rollout.kv_cache_mb << 20 if shares else None

    @property
    def max_entry_bytes(self) -> int:
        """Largest entry of a stream, in bytes."""
        return self.redis.max_entry_mb << 20

    @model_validator(mode="after")
    def check_laws(self) -> Self:
        """Check what no single leaf can check; all problems come in one error."""
        problems = [
            *laws.rollout_laws(self.rollout),
            *laws.cold_start_laws(self.cold_start, self.data),
            *laws.judging_laws(self.prompts, self.eval),
            *laws.loss_laws(self.grpo),
            *laws.batch_laws(self.grpo, self.rollout, self.learner, self.meta_rm),
            *laws.meta_rm_laws(self.meta_rm, self.cold_start, self.grpo, self.rollout),
            *laws.meta_template_laws(self.meta_rm),
            *laws.lora_laws(self.learner, self.meta_rm, self.rollout),
            *laws.offload_laws(self.learner, self.meta_rm),
            *laws.length_laws(self.model, self.rollout, self.learner, self.meta_rm),
            *laws.sharing_laws(self.cluster, self.rollout, self.learner, self.meta_rm),
            *laws.redis_laws(self.redis),
        ]
        if problems:
            raise laws.LawsBroken(problems)
        return self
