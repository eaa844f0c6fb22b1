"""The laws between leaves: what no single leaf can check. Each function returns one sentence per broken law."""

import os
from collections.abc import Sequence

from configs.grpo_section import GRPOConfig
from configs.paths import expanded
from configs.redis_url import RedisUrl
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
)

_TRUNCATED = (
    "truncated sampling biases the importance weight, so completions are sampled from all tokens"
    " (top_p 1.0, top_k -1); leave the key out"
)
_BOUNDS = "the bounds of the importance ratio are grpo.ratio_low and grpo.ratio_high; grpo.correction says what they do"
REFUSED = {
    "rollout.top_p": _TRUNCATED,
    "rollout.top_k": _TRUNCATED,
    "grpo.clip_low": f"{_BOUNDS}: PPO's clipping at 1 - epsilon is grpo.correction=clip with grpo.ratio_low=1-epsilon",
    "grpo.clip_high": f"{_BOUNDS}: PPO's clipping at 1 + epsilon is grpo.correction=clip with grpo.ratio_high=1+epsilon",
    "grpo.tis_cap": f"{_BOUNDS}: the cap of grpo.correction=tis is grpo.ratio_high",
}
"""Keys that other trainers (or older versions) have and that this one refuses, with the reason."""


class LawsBroken(ValueError):
    """Leaves that are fine by themselves and not together."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


def rollout_laws(rollout: RolloutConfig) -> list[str]:
    """Groups and the autoscaler's bounds."""
    out = []
    if rollout.samples < 2:
        out.append(f"rollout.samples = {rollout.samples}: a group needs G >= 2 completions to have an advantage")
    elif rollout.orders > 1 and rollout.orders % 2:
        out.append(
            f"rollout.orders = {rollout.orders} must be 1 or even: orders are balanced in pairs, each with its mirror image"
        )
    elif rollout.samples % rollout.orders:
        out.append(
            f"rollout.samples = {rollout.samples} completions cannot be spread evenly over rollout.orders = {rollout.orders}"
            " orders of the responses; make samples a multiple of orders"
        )
    low, high = rollout.autoscale_min, rollout.autoscale_max
    if low > high:
        out.append(f"rollout.autoscale_min = {low} is over rollout.autoscale_max = {high} (0: no autoscaling); raise that")
    return out


def cold_start_laws(cold: ColdStartConfig, data: DataConfig) -> list[str]:
    """Something must be sampled, something must be kept, what is easy must be known, and a teacher is named in full."""
    out = _teacher_laws(cold)
    if data.skip_easy and (cold.teacher or not (cold.enabled and cold.samples)):
        out.append(
            "data.skip_easy = true: the policy's own judgements of the cold start without a hint say what is easy; set"
            " cold_start.enabled=true, cold_start.samples above 0 and no cold_start.teacher, or data.skip_easy=false"
        )
    if cold.reads_judgements:
        return out
    if cold.enabled and not cold.samples and not cold.hinted:
        out.append("cold_start.samples = 0 and cold_start.hinted = false: nothing would be sampled; set one of them")
    if cold.enabled and cold.samples == 1:
        out.append("cold_start.samples = 1: a lone right judgement counts as too easy, so none would be kept; use 3, or 0")
    return out


def _teacher_laws(cold: ColdStartConfig) -> list[str]:
    """A teacher's address is not quoted: it may hold a password, and the run's config is written down."""
    out = []
    if cold.asks_endpoint and "@" in cold.teacher:
        out.append("cold_start.teacher: leave user and password out of the address; the key goes into OPENAI_API_KEY")
    if cold.asks_endpoint and not cold.teacher_model:
        out.append("cold_start.teacher is an endpoint: name the model that it serves in cold_start.teacher_model")
    if cold.teacher_model and not cold.asks_endpoint:
        out.append(
            f"cold_start.teacher_model = {cold.teacher_model!r} is a served model: give its address in cold_start.teacher, as"
            " http://host:port/v1"
        )
    if cold.reads_judgements and not os.path.isfile(expanded(cold.teacher)):
        out.append(
            f"cold_start.teacher = {cold.teacher!r}: no such file; give a JSONL file of judgements, or an endpoint as"
            " http://host:port/v1"
        )
    return out


def judging_laws(prompts: PromptsConfig, evaluation: EvalConfig) -> list[str]:
    """Templates and votes."""
    out = []
    path = prompts.template_path
    if path and not prompts.principles:
        out.append(
            "prompts.principles = false applies to the shipped styles; with prompts.template_path, edit that template instead"
        )
    if path and not os.path.isfile(expanded(path)):
        out.append(f"prompts.template_path = {path!r}: no such file")
    if sorted(set(evaluation.votes)) != evaluation.votes:
        out.append(f"eval.votes = {evaluation.votes}: give each k once, in ascending order")
    return out


def meta_template_laws(meta: MetaRMConfig) -> list[str]:
    """The template of a meta-RM is there."""
    path = meta.template_path
    return [f"meta_rm.template_path = {path!r}: no such file"] if path and not os.path.isfile(expanded(path)) else []


def loss_laws(grpo: GRPOConfig) -> list[str]:
    """The bounds of the importance ratio have an effect, and every batch can have a gradient."""
    out = []
    (low, high), given = grpo.ratio_bounds, grpo.ratio_low or grpo.ratio_high
    if grpo.correction == "none" and given:
        out.append(
            f"grpo.ratio_low = {grpo.ratio_low:g} and grpo.ratio_high = {grpo.ratio_high:g} have no effect with"
            " grpo.correction = none: leave them out, or choose a correction"
        )
    elif not low <= 1 <= high or low == high:
        out.append(
            f"grpo.ratio_low = {low:g} and grpo.ratio_high = {high:g} must enclose 1, the ratio of a token that the policy"
            f" itself has just sampled (0 is the own bound of grpo.correction = {grpo.correction})"
        )
    if not grpo.filter and not grpo.beta and grpo.overlong != "penalty":
        out.append(
            "grpo.filter = false keeps groups of equal rewards for their KL, and grpo.beta = 0 leaves them without a gradient;"
            " set grpo.beta, or grpo.filter=true"
        )
    return out


def batch_laws(grpo: GRPOConfig, rollout: RolloutConfig, learner: LearnerConfig, meta: MetaRMConfig) -> list[str]:
    """The policy's batches divide evenly among ranks, and a batch of the meta-RM can wait for it.

    A batch of the meta-RM is no such number of completions: it is whole groups, and of them what was parsed.
    """
    out = []
    completions = grpo.batch_groups * rollout.samples
    if completions % learner.ranks:
        out.append(
            f"grpo.batch_groups x rollout.samples = {grpo.batch_groups} x {rollout.samples} = {completions}"
            f" completions cannot be divided evenly among learner.ranks = {learner.ranks}"
        )
    if not meta.enabled:
        return out
    if meta.max_backlog * rollout.samples < meta.batch:
        out.append(
            f"meta_rm.max_backlog = {meta.max_backlog} groups hold fewer completions than meta_rm.batch = {meta.batch}:"
            " the meta-RM would always skip and never train"
        )
    return out


def meta_rm_laws(
    meta: MetaRMConfig, cold: ColdStartConfig, grpo: GRPOConfig, rollout: RolloutConfig, *, preferences: int | None = None
) -> list[str]:
    """The meta-RM's batch is not more than what the run is sure to produce, or the meta-RM might never take a step. How many
    judgements a teacher's file gives is not looked at.

    How much of it can be parsed nobody knows before it is sampled; if it is too little, the run says so at its end.

    Args:
        meta: Whose batch it is.
        cold: Its judgements without a hint are the meta-RM's first batches.
        grpo: How many groups are trained.
        rollout: How many completions a group has.
        preferences: Number of training preferences; None: not known yet.
    """
    unknown = cold.reads_judgements or (preferences is None and not cold.preferences)
    if not meta.enabled or (cold.enabled and unknown):
        return []
    trained = grpo.steps * grpo.batch_groups * rollout.samples
    known = [count for count in (cold.preferences, preferences) if count]
    judged = min(known) * cold.samples if cold.enabled else 0
    if meta.batch <= max(trained, judged):
        return []
    return [
        f"meta_rm.batch = {meta.batch} completions may never come together, so the meta-RM might take no step: online RL trains"
        f" {trained} (grpo.steps x grpo.batch_groups x rollout.samples), the cold start samples {judged} without a hint; lower"
        " meta_rm.batch, or set meta_rm.enabled=false"
    ]


def lora_laws(learner: LearnerConfig, meta: MetaRMConfig, rollout: RolloutConfig) -> list[str]:
    """Adapters are trained, and sampled with, where each process has the whole model."""
    stages = {"learner": learner.zero_stage} | ({"meta_rm": meta.zero_stage} if meta.enabled else {})
    cut = [
        f"learner.lora_rank = {learner.lora_rank} and rollout.tensor_parallel = {rollout.tensor_parallel}: adapters are"
        " loaded by engines of one process only; set one of them to its default"
    ]
    return (cut if learner.lora_rank and rollout.tensor_parallel > 1 else []) + [
        f"learner.lora_rank = {learner.lora_rank} and {name}.zero_stage = 3: adapters are trained beside weights that each rank"
        f" holds whole; set {name}.zero_stage=1, or learner.lora_rank=0"
        for name, stage in stages.items()
        if learner.lora_rank and stage == 3
    ]


def offload_laws(learner: LearnerConfig, meta: MetaRMConfig) -> list[str]:
    """What is offloaded is divided among ranks, if only one: DeepSpeed offloads at no other stage."""
    if not learner.optimizer_offload:
        return []
    stages = {"learner": learner.zero_stage} | ({"meta_rm": meta.zero_stage} if meta.enabled else {})
    return [
        f"learner.optimizer_offload = true needs {name}.zero_stage >= 1, and it is 0: set {name}.zero_stage=1"
        for name, stage in stages.items()
        if not stage
    ]


def length_laws(model: ModelConfig, rollout: RolloutConfig, learner: LearnerConfig, meta: MetaRMConfig) -> list[str]:
    """A prompt has room beside its completion, and a micro-batch holds the longest sequence."""
    out = []
    if rollout.max_new_tokens >= model.context:
        out.append(
            f"rollout.max_new_tokens = {rollout.max_new_tokens} leaves no room for a prompt in model.context = {model.context}"
        )
    sections = {"learner": learner.micro_tokens} | ({"meta_rm": meta.micro_tokens} if meta.enabled else {})
    for name, tokens in sections.items():
        if tokens < model.context:
            out.append(f"{name}.micro_tokens = {tokens} cannot hold one sequence of model.context = {model.context}")
    return out


def sharing_laws(cluster: ClusterConfig, rollout: RolloutConfig, learner: LearnerConfig, meta: MetaRMConfig) -> list[str]:
    """What shares a GPU is one process of each kind: the ranks of a learner cannot meet on one card (NCCL refuses that)."""
    if not cluster.share_gpu:
        return []
    out = []
    if cluster.device == "cpu":
        out.append("cluster.share_gpu = true shares a GPU, and cluster.device = cpu has none: set one of them")
    counts = {"rollout.workers": rollout.workers, "learner.ranks": learner.ranks}
    counts |= {"meta_rm.ranks": meta.ranks} if meta.enabled else {}
    if many := [f"{name} = {count}" for name, count in counts.items() if count > 1]:
        out.append(f"cluster.share_gpu = true has room for one process of a kind, but {', '.join(many)}: set 1")
    if rollout.tensor_parallel > 1:
        out.append(f"cluster.share_gpu = true has one GPU, but rollout.tensor_parallel = {rollout.tensor_parallel}: set 1")
    if rollout.autoscale_max > 1:
        out.append(
            f"cluster.share_gpu = true has one rollout worker, but rollout.autoscale_max = {rollout.autoscale_max}: set 0"
        )
    return out


def redis_laws(redis: RedisConfig) -> list[str]:
    """The server's address. It may hold a password, so it is not quoted."""
    try:
        if redis.url:
            RedisUrl.parse(redis.url)
    except ValueError as error:
        return [f"redis.url: {error}"]
    return []
