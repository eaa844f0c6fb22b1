"""The sections of the configuration and their leaves: type, range, default and what each one sets.

The text below a leaf is its description: `python launch/run.py --explain SECTION` prints it and docs/configuration.md holds it.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

LARGEST = 2**53  # a whole number up to here is exact as a float too, and it can be written down
Count = Annotated[int, Field(ge=1, le=LARGEST)]
Natural = Annotated[int, Field(ge=0, le=LARGEST)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
OpenShare = Annotated[float, Field(gt=0.0, lt=1.0)]
ZeroStage = Literal[0, 1, 2, 3]


class Section(BaseModel):
    """Strict (no silent casts), closed (no unknown key) and frozen."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


@dataclass(frozen=True)
class OneOf:
    """Annotation of a text that is one of a few names, or names a function of the user's own as FILE.py:FUNCTION."""

    names: tuple[str, ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def _checked(self, text: str) -> str:
        if text not in self.names and not re.fullmatch(r".+\.py:[^\W\d]\w*", text):
            raise ValueError(f"give {', '.join(self.names)}, or a function of your own as FILE.py:FUNCTION")
        return text


class RunConfig(Section):
    """The run's name, its place on disk and its seed."""

    seed: Natural = 0
    """Seed of all that is random. Sampling repeats exactly only at `grpo.max_staleness` 0."""
    dir: str = "runs"
    """Folder in which run folders are made. On several nodes, a folder that all of them share."""
    id: str = Field("", pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$")
    """Name of the run folder: letters, digits, `.`, `_` and `-`, at most 64. Empty: preset, time and seed."""


class ModelConfig(Section):
    """The base model."""

    path: str
    """A Hugging Face model folder or hub name, or `tiny` or `smollm2-135m`."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the weights. `auto`: float32 on CPU, bfloat16 on GPU."""
    context: Count
    """Longest prompt and completion together, in tokens."""
    billions: NonNegative = 0.0
    """Parameters in billions, needed to plan for a model that is not on this disk yet. 0: read from its config.json."""


class DataConfig(Section):
    """Labelled preferences."""

    train: list[str] = Field(min_length=1)
    """Sources to train on: files, folders or patterns (docs/data.md), `tiny:seed:count`, or `hf:name` for a set of the hub.
    FILE.py:FUNCTION@SOURCE passes its rows through a function of your own (docs/extending.md)."""
    heldout: list[str] = Field(min_length=1)
    """Sources to evaluate on, of the same kinds, or benchmarks, `bench:name`. No preference may stand in both."""
    strict: bool = False
    """Refuse a file at the first row that cannot be read. false: skip and count such rows, unless they are half of the file."""
    train_limit: Natural = 0
    """Training preferences to use at most, a fair sample of all sources together. 0: all of them."""
    skip_easy: bool = False
    """Leave out of online RL the preferences that all judgements of the cold start without a hint got right (paper: yes)."""
    heldout_limit: Natural = 0
    """Held-out preferences to use at most, likewise; also the size of the evaluations before and after. 0: all."""


class PromptsConfig(Section):
    """How the policy is asked for a judgement."""

    style: Literal["full", "compact", "example"] = "full"
    """Shipped template: `full` (for language models), `compact` (short) or `example` (shows a judgement, for small models)."""
    template_path: str = ""
    """Template file of your own, in place of `style`; grm/prompts.py lists its placeholders. Empty: none."""
    principles: bool = True
    """Ask for principles before the critique. false: critique and scores only (an ablation of the paper)."""
    show: list[Literal["reference", "criteria"]] = []
    """Fields of a row to show to the judge: `reference` (a right answer), `criteria` (what to judge by). Empty: none."""
    thinking: bool = False
    """Let a model think before it judges: `enable_thinking` of its chat template. `rollout.max_new_tokens` is for both."""


class ColdStartConfig(Section):
    """Rejective fine-tuning (RFT) before online RL: sample judgements, keep what is right and not too easy, fine-tune."""

    enabled: bool = False
    """Run the cold start before online RL."""
    samples: Natural = 3
    """N_RFT, judgements per preference without a hint (paper: 3)."""
    hinted: bool = True
    """Sample one more judgement per preference from a prompt that names the best response (paper: yes)."""
    balance: bool = False
    """Leave out kept judgements until the best response stood equally often in each place (paper: no)."""
    preferences: Natural = 0
    """Training preferences to sample. 0: all."""
    teacher: str = ""
    """Who writes the judgements: an OpenAI-compatible server (`http://host:port/v1`) or a JSONL file of them. Empty: the policy
    (paper: a 236B model)."""
    teacher_model: str = ""
    """Name of the model that the endpoint of `teacher` serves; its key in OPENAI_API_KEY."""
    general: list[str] = []
    """JSONL files of general instruction data to mix into the fine-tuning (paper: 85 % of its examples). Empty: none."""
    steps: Count = 900
    """Optimiser steps at most (paper: 900)."""
    batch: Count = 1024
    """Examples per optimiser step (paper: 1024)."""
    lr: Positive = 5e-6
    """Learning rate after the warm-up; it stays there."""
    warmup_steps: Natural = 0
    """Optimiser steps over which the learning rate rises to `lr`."""
    select: Literal["loss", "accuracy", "last"] = "loss"
    """Which version is kept. `loss`: that of the lowest held-out loss. `accuracy`: that which judges best, greedily, up to 64
    preferences it did not learn from; slow for large models. `last`: the last, after all `steps` (the paper's)."""
    eval_every: Count = 50
    """Optimiser steps between two measurements of what `select` goes by."""
    patience: Count = 3
    """Measurements in a row without a better one after which fine-tuning stops; never with `last`."""

    @property
    def asks_endpoint(self) -> bool:
        """Whether the teacher is a served model."""
        return self.teacher.startswith(("http://", "https://"))

    @property
    def reads_judgements(self) -> bool:
        """Whether the teacher is a file of judgements."""
        return bool(self.teacher) and not self.asks_endpoint


class RolloutConfig(Section):
    """Sampling by the rollout workers (vLLM)."""

    workers: Count = 1
    """Rollout workers at the start. `launch/scale.py` changes their number during the run."""
    autoscale_min: Natural = 0
    """Fewest workers that the autoscaler keeps."""
    autoscale_max: Natural = 0
    """Most workers that the autoscaler starts. 0: no autoscaling."""
    resource: str = ""
    """Custom Ray resource of which each worker takes one, to place workers on certain nodes. Empty: any node."""
    samples: Count = 4
    """G, completions per preference, at least 2 (paper: 4)."""
    orders: Count = 2
    """Orders of the responses that a group reads, 1 or an even number; `samples` are spread evenly over them. 2: an order and
    its mirror image, so that a position bias earns nothing. 1: the paper's."""
    temperature: Positive = 1.0
    """Sampling temperature; the learner computes its log-probabilities at the same one."""
    max_new_tokens: Count = 1024
    """Longest completion, in tokens. A prompt may have `model.context` minus this."""
    max_groups: Count = 32
    """Rollout groups that fill one engine: it decodes this many times `rollout.samples` completions at a time."""
    kv_cache_mb: Count = 256
    """KV cache of an engine in MiB, on CPU and with `cluster.share_gpu`."""
    gpu_memory: OpenShare = 0.9
    """Share of a GPU's memory that an engine takes, without `cluster.share_gpu`."""
    tensor_parallel: Count = 1
    """Processes over which each engine cuts the model, on as many GPUs of one node: for models that are large for one GPU."""


class LearnerConfig(Section):
    """The processes that train the policy (DeepSpeed)."""

    ranks: Count = 1
    """Data-parallel processes, one GPU each on GPUs."""
    zero_stage: ZeroStage = 1
    """DeepSpeed ZeRO stage: what is divided among ranks (0 nothing, 1 optimiser, 2 gradients too, 3 weights too)."""
    micro_tokens: Count = 16384
    """Tokens of a micro-batch, padding included; at least `model.context`."""
    lora_rank: Annotated[int, Field(ge=0, le=512)] = 0
    """Rank of LoRA adapters, which are trained in place of all weights, of the meta-RM too. 0: all weights are trained. With
    adapters, learning rates are higher: about ten times in a language model."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, more time."""
    optimizer_offload: bool = False
    """Keep the optimiser of all learners in the CPU's memory, 12 bytes a parameter (ZeRO 2, 3: 16). Slower; for small GPUs."""
    checkpoint_every: Count = 50
    """Optimiser steps between two checkpoints."""
    keep_checkpoints: Count = 2
    """Newest checkpoints kept on disk; the optimiser's state of the newest alone."""


class MetaRMConfig(Section):
    """The meta-RM, a classifier that learns from the same experience which judgements are right."""

    enabled: bool = True
    """Train a meta-RM beside the policy."""
    ranks: Count = 1
    """Data-parallel processes, one GPU each on GPUs."""
    zero_stage: ZeroStage = 1
    """DeepSpeed ZeRO stage, as `learner.zero_stage`."""
    lr: Positive = 1e-5
    """Learning rate after the warm-up; it stays there."""
    warmup_steps: Natural = 0
    """Optimiser steps over which the learning rate rises to `lr`."""
    batch: Count = 512
    """Parsed completions per optimiser step, in whole groups (paper: 512). Unparsed ones never vote, so they are left out."""
    max_backlog: Count = 1024
    """Groups that may wait for the meta-RM. Older ones are skipped and counted."""
    micro_tokens: Count = 16384
    """Tokens of a micro-batch, padding included; at least `model.context`."""
    template_path: str = ""
    """For `evaluate.py` alone: prompt file of a meta-RM from elsewhere, of query and responses. Empty: the judge's prompt."""


class EvalConfig(Section):
    """Held-out evaluation: greedy judgements, and votes of sampled ones."""

    every: Natural = 0
    """Policy versions between evaluations during training. 0: only before and after."""
    during_limit: Count = 64
    """Held-out preferences of an evaluation during training."""
    votes: list[Count] = []
    """Numbers k of votes to report, ascending, before and after training (paper: up to 32). Empty: greedy judgements only."""
    votes_limit: Natural = 0
    """Held-out preferences that are voted on. 0: all."""
    both_orders: bool = True
    """Judge greedily in a drawn order and in the opposite one, and report their mean and consistency; during training in one.
    false: in one order always, at half the cost."""
    expected_scores: bool = False
    """Report a second figure, `expected`: each greedy score is the mean over its token's distribution, so 7.2 and not 7. Not
    during training."""
    temperature: Positive = 0.5
    """Sampling temperature of the votes (paper: 0.5)."""
    clip_scores: bool = False
    """Take a score outside of 1..10 as the nearest inside (for the released DeepSeek-GRM). false: it does not parse."""


class RedisConfig(Section):
    """The server that holds the streams between the processes."""

    url: str = ""
    """Server of your own: `redis://`, `rediss://` or `unix://`; its password in SPCT_REDIS_PASSWORD. Empty: one is started."""
    fsync: Literal["everysec", "always"] = "everysec"
    """When the started server writes to disk: `everysec` (a power cut costs up to a second of it) or `always` (slower)."""
    claim_timeout_s: Positive = 10.0
    """Seconds without renewal after which a claimed entry may be claimed by another worker."""
    max_deliveries: Count = 5
    """Times that an entry may be claimed. One that is claimed more often becomes a dead letter."""
    max_entry_mb: Count = 64
    """Largest entry of a stream, in MiB. A larger one is refused."""


class ClusterConfig(Section):
    """Devices and Ray."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Device of engines and learners."""
    address: str = "auto"
    """Ray cluster: HOST:PORT of its head. `auto`: the one that this job runs in, else a new one on this machine."""
    restarts: Natural = 5
    """Times that a process is replaced, in a row without getting further or for one error, before its failure ends the run."""
    gpu_memory_gb: Positive = 80.0
    """Memory of a GPU in GB (10^9 bytes), for the plan. What a card is sold as is a little less than it has: an H100 of 80 GB
    has 85.5."""
    share_gpu: bool = False
    """One GPU for the engine, the learner with its reference, and the meta-RM; else each process has one of its own."""


class TrackingConfig(Section):
    """Where metrics go besides the run folder: Weights & Biases, TensorBoard."""

    project: str = "spct"
    """Name of the W&B project."""
    mode: Literal["auto", "offline", "online", "disabled"] = "auto"
    """Where metrics go besides the run folder. `auto`: as WANDB_MODE sets it, else online with an API key, else offline."""
    tensorboard: bool = False
    """Write TensorBoard's files to the run folder, too; the package `tensorboard` must be installed."""
    samples: Natural = 8
    """Judgements kept in the table of each evaluation."""


class WaitsConfig(Section):
    """How long the run waits before it acts, in seconds."""

    server_s: Positive = 20.0
    """Until the Redis server or the Ray cluster answers."""
    start_s: Positive = 600.0
    """Until an actor is ready (imports from a cold disk are slow)."""
    progress_s: Positive = 600.0
    """Until the next optimiser step; then the run fails and names the bottleneck."""
    judge_s: Positive = 1800.0
    """Until an evaluation has ended."""
    heartbeat_s: Positive = 20.0
    """Silence of a process after which it counts as dead and is replaced."""
    hang_s: Positive = 300.0
    """Time without progress after which a busy worker stops renewing its claims."""
    drain_s: Positive = 60.0
    """Time that a rollout worker has to finish its groups before it is removed."""
