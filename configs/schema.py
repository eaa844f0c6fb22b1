"""The configuration: every knob, its type, its range, and the laws between knobs, checked before anything starts.

Two levels deep: a section and its leaves. What follows from other values is a property, never a leaf.
"""

from __future__ import annotations

import os
import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

LARGEST = 2**53  # of a whole number: a float holds it too, and it can be written down
Count = Annotated[int, Field(ge=1, le=LARGEST)]
Natural = Annotated[int, Field(ge=0, le=LARGEST)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
ZeroStage = Literal[0, 1, 2, 3]


class Section(BaseModel):
    """Strict (no silent casts), closed (no unknown key) and frozen."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class RunConfig(Section):
    seed: Natural = 0
    dir: str = Field("runs", description="where run folders are made")
    id: str = Field("", pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$", description="empty: preset and time")


class ModelConfig(Section):
    path: str = Field(description="a Hugging Face model folder or name, or `tiny`, or `smollm2-135m`")
    dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto: float32 on CPU, bfloat16 on GPU")
    context: Count = Field(description="tokens of a prompt and its completion together, at most")
    billions: NonNegative = Field(0.0, description="parameters, for the plan of a model that is not on disk yet; 0: read it")


class DataConfig(Section):
    train: list[str] = Field(min_length=1, description="JSONL files, `tiny:seed:count`, or `hf:name`")
    heldout: list[str] = Field(min_length=1)
    train_limit: Natural = Field(0, description="preferences used at most; 0: all")
    heldout_limit: Natural = Field(0, description="as above, also the size of each evaluation")


class PromptsConfig(Section):
    style: Literal["full", "compact", "example"] = "full"
    template_path: str = Field("", description="own template file in place of `style`")
    principles: bool = Field(True, description="false: ask for critique and scores only (an ablation of the paper)")


class ColdStartConfig(Section):
    enabled: bool = False
    samples: Natural = Field(3, description="N_RFT, judgements per preference without a hint (paper: 3)")
    hinted: bool = Field(True, description="sample one judgement more per preference, told which response is best")
    preferences: Natural = Field(0, description="training preferences sampled; 0: all")
    general: list[str] = Field([], description="JSONL files of general instruction data to be mixed in")
    steps: Count = Field(900, description="optimiser steps of the fine-tuning, at most (paper: 900)")
    batch: Count = Field(1024, description="examples per optimiser step (paper: 1024)")
    lr: Positive = 5e-6
    warmup_steps: Natural = 0
    eval_every: Count = Field(50, description="optimiser steps between two looks at the held-out loss")
    patience: Count = Field(3, description="looks without a better held-out loss before it stops")


class RolloutConfig(Section):
    workers: Count = Field(1, description="at the start; launch/scale.py changes it while the run goes on")
    autoscale_min: Natural = Field(0, description="workers at least, when the run itself decides on their number")
    autoscale_max: Natural = Field(0, description="workers at most; 0: as many as was said, no autoscaling")
    resource: str = Field("", description="a custom Ray resource that each worker asks one of, to place it on certain nodes")
    samples: Count = Field(4, description="G, completions per prompt (paper: 4)")
    temperature: Positive = 1.0
    top_p: Positive = 1.0
    top_k: int = -1
    max_new_tokens: Count = 1024
    max_groups: Count = Field(32, description="groups in one engine at a time")
    kv_cache_mb: Count = Field(256, description="KV cache per engine on CPU")
    gpu_memory: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(0.9, description="share of a GPU for one engine")


class GRPOConfig(Section):
    steps: Count = 900
    batch_groups: Count = Field(128, description="B, groups per optimiser step (paper: 128 x 4 completions)")
    max_staleness: Natural = Field(1, description="eta, in policy versions; 0 is the synchronous algorithm")
    stale: Literal["wait", "drop"] = "wait"
    lr: Positive = 4e-7
    warmup_steps: Natural = 0
    weight_decay: NonNegative = 0.0
    grad_clip: Positive = 1.0
    beta: NonNegative = Field(0.08, description="weight of the KL to the reference (paper: 0.08 for 27B)")
    clip_low: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    clip_high: Positive = 0.2
    correction: Literal["tis", "none"] = "tis"
    tis_cap: Annotated[float, Field(ge=1.0)] = Field(2.0, description="C, the cap of the truncated importance weight")
    normalise: Literal["sequence", "token"] = "sequence"
    max_skips: Count = Field(3, description="batches in a row with a loss that is not finite, before the run ends")


class LearnerConfig(Section):
    ranks: Count = 1
    zero_stage: ZeroStage = 1
    micro_tokens: Count = Field(16384, description="tokens of one micro-batch, padding included")
    gradient_checkpointing: bool = False
    checkpoint_every: Count = Field(50, description="optimiser steps between checkpoints")
    keep_checkpoints: Count = 2


class MetaRMConfig(Section):
    enabled: bool = True
    ranks: Count = 1
    zero_stage: ZeroStage = 1
    lr: Positive = 1e-5
    warmup_steps: Natural = 0
    batch: Count = Field(512, description="completions per optimiser step (paper: 512)")
    max_backlog: Count = Field(1024, description="groups it may lie behind; older ones are skipped and counted")
    micro_tokens: Count = 16384


class EvalConfig(Section):
    every: Natural = Field(0, description="policy versions between evaluations while training; 0: only before and after")
    during_limit: Count = Field(64, description="held-out preferences of an evaluation while training")
    votes: list[Count] = Field([], description="k of the votes measured at the end; empty: greedy judgements only")
    votes_limit: Natural = Field(0, description="held-out preferences that are voted on; 0: all")
    temperature: Positive = Field(0.5, description="of the votes (paper: 0.5)")


class RedisConfig(Section):
    url: str = Field("", description="redis://, rediss:// or unix:// of an own server; empty: one is started for the run")
    fsync: Literal["everysec", "always"] = "everysec"
    claim_timeout_s: Positive = Field(
        10.0, description="an entry whose claim was not renewed for so long may be claimed by another worker"
    )
    max_deliveries: Count = Field(5, description="an entry claimed more often is a dead letter")
    max_entry_mb: Count = 64


class ClusterConfig(Section):
    device: Literal["cpu", "cuda"] = "cpu"
    address: str = Field("auto", description="auto: the cluster this job runs in, else a new one; or HOST:PORT")
    restarts: Natural = Field(5, description="times in a row that a part is replaced before its death ends the run")
    gpu_memory_gb: Positive = 80.0


class TrackingConfig(Section):
    project: str = "spct"
    mode: Literal["auto", "offline", "online", "disabled"] = "auto"
    samples: Natural = Field(8, description="judgements kept in the table at each evaluation")


class WaitsConfig(Section):
    server_s: Positive = 20.0
    start_s: Positive = Field(600.0, description="until an actor is ready; cold imports are slow")
    progress_s: Positive = Field(600.0, description="until the next optimiser step")
    judge_s: Positive = Field(1800.0, description="until an evaluation has ended")
    heartbeat_s: Positive = Field(20.0, description="a part that has not beaten for so long is taken for dead, and replaced")
    hang_s: Positive = Field(300.0, description="a worker busy for so long without progress lets go of its claims")
    drain_s: Positive = Field(60.0, description="for a rollout worker that is to go to finish what it has")


class Config(Section):
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
        waits, and no more than that lies in RedisConfig."""
        return 2 * self.rollout.max_groups

    @property
    def heartbeat_interval_s(self) -> float:
        """Seconds between two beats of a part, each of which renews its claims: four in the time after which its claims
        lapse, and four in the time after which it is taken for dead."""
        return min(self.redis.claim_timeout_s, self.waits.heartbeat_s) / 4

    @property
    def max_prompt_tokens(self) -> int:
        return self.model.context - self.rollout.max_new_tokens

    @property
    def dtype(self) -> Literal["float32", "bfloat16"]:
        if self.model.dtype == "auto":
            return "float32" if self.cluster.device == "cpu" else "bfloat16"
        return self.model.dtype

    @property
    def max_entry_bytes(self) -> int:
        return self.redis.max_entry_mb << 20

    @model_validator(mode="after")
    def laws(self) -> Self:
        problems = [
            *self._sampling_laws(),
            *self._scaling_laws(),
            *self._cold_start_laws(),
            *self._batch_laws(),
            *self._fitting_laws(),
        ]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _sampling_laws(self) -> list[str]:
        r = self.rollout
        out = []
        if r.samples < 2:
            out.append(f"rollout.samples = {r.samples}: a group needs G >= 2 completions to have an advantage")
        if r.top_p != 1.0 or r.top_k != -1:
            out.append(
                f"rollout.top_p = {r.top_p}, rollout.top_k = {r.top_k}: truncated sampling biases the importance"
                " weight; set top_p to 1.0 and top_k to -1"
            )
        return out

    def _scaling_laws(self) -> list[str]:
        low, high = self.rollout.autoscale_min, self.rollout.autoscale_max
        if low > high:
            return [f"rollout.autoscale_min = {low} is over rollout.autoscale_max = {high} (0: no autoscaling); raise that"]
        return []

    def _cold_start_laws(self) -> list[str]:
        c, out = self.cold_start, []
        if c.enabled and not c.samples and not c.hinted:
            out.append("cold_start.samples = 0 and cold_start.hinted = false: nothing would be sampled; set one of them")
        if c.enabled and c.samples == 1:
            out.append("cold_start.samples = 1: a lone right judgement counts as too easy, so none would be kept; use 3, or 0")
        if self.prompts.template_path and not self.prompts.principles:
            out.append("prompts.principles = false belongs to the shipped styles: an own template_path says what it asks for")
        if sorted(set(self.eval.votes)) != self.eval.votes:
            out.append(f"eval.votes = {self.eval.votes}: give each k once, in ascending order")
        return out

    def _batch_laws(self) -> list[str]:
        g, m = self.grpo, self.meta_rm
        out = []
        completions = g.batch_groups * self.rollout.samples
        if completions % self.learner.ranks:
            out.append(
                f"grpo.batch_groups x rollout.samples = {g.batch_groups} x {self.rollout.samples} = {completions}"
                f" completions cannot be dealt evenly to learner.ranks = {self.learner.ranks}"
            )
        if m.enabled and m.batch % self.rollout.samples:
            out.append(
                f"meta_rm.batch = {m.batch} must be whole groups: a multiple of rollout.samples = {self.rollout.samples}"
            )
        if m.enabled and m.batch % m.ranks:
            out.append(f"meta_rm.batch = {m.batch} cannot be dealt evenly to meta_rm.ranks = {m.ranks}")
        if m.enabled and m.max_backlog * self.rollout.samples < m.batch:
            out.append(
                f"meta_rm.max_backlog = {m.max_backlog} groups hold fewer completions than meta_rm.batch = {m.batch}:"
                " it would skip for ever and never train"
            )
        return out

    def _fitting_laws(self) -> list[str]:
        out = []
        if self.max_prompt_tokens < 1:
            out.append(
                f"rollout.max_new_tokens = {self.rollout.max_new_tokens} leaves no room for a prompt in"
                f" model.context = {self.model.context}"
            )
        sections = [("learner", self.learner.micro_tokens)]
        if self.meta_rm.enabled:
            sections.append(("meta_rm", self.meta_rm.micro_tokens))
        for name, tokens in sections:
            if tokens < self.model.context:
                out.append(f"{name}.micro_tokens = {tokens} cannot hold one sequence of model.context = {self.model.context}")
        if self.redis.url and not self.redis.url.startswith(("redis://", "rediss://", "unix://")):
            out.append("redis.url: expected redis://, rediss:// or unix:// in front")  # it may hold a password: not shown
        if re.search(r"[?&]password=", self.redis.url):
            out.append("redis.url: a password after the `?` would be written down; put it in SPCT_REDIS_PASSWORD")
        if self.prompts.template_path and not os.path.isfile(self.prompts.template_path):
            out.append(f"prompts.template_path = {self.prompts.template_path!r}: no such file")
        return out
