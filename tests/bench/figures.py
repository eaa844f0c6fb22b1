"""Every figure of `make bench`: what is divided by what, and what it should reach. A bench reports no other names.

The first word of a name is the bench. The value is the ratio ours / against, or ours where there is nothing to compare with.
"""

from dataclasses import dataclass

PRESETS = {"tiny": "tiny", "smollm2": "smollm2-135m"}
CASES = ("tiny-8x32", "tiny-4x4", "smollm2-4x8")  # model, completions of a group, groups in the engine at a time
SIGMAS = (0.5, 1.0, 1.5)
VOTES = (1, 8, 32)
WORKERS = (1, 4, 16, 64)
FLEETS = (1000, 10000)
POLICIES = {"before": "an untrained policy", "after": "a trained policy"}


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table."""

    what: str
    """What of ours is measured."""
    against: str = ""
    """What it is divided by; "" where it is stated alone."""
    at_least: float | None = None
    """The value to reach, where more is better."""
    at_most: float | None = None
    """The value to reach, where less is better."""

    @property
    def goal(self) -> str:
        """The value to reach, in words."""
        bounds = (("≥", self.at_least), ("≤", self.at_most))
        return next((f"{sign} {bound:g}" for sign, bound in bounds if bound is not None), "stated")

    def reached(self, value: float) -> bool | None:
        """Whether a value reaches the goal; None where there is none."""
        if self.at_least is not None:
            return value >= self.at_least
        return None if self.at_most is None else value <= self.at_most


FIGURES = dict[str, Figure]()
for case in CASES:
    what, goal = f"tokens/s of a rollout actor, {case}", 0.95 if case.startswith("smollm2") else 0.85
    FIGURES[f"rollout {case} same"] = Figure(what, "bare vLLM with the same settings")
    FIGURES[f"rollout {case} packed"] = Figure(what, "bare vLLM with packed weights, without log-probs", at_least=goal)
for model in PRESETS:
    copy = "memcpy of the same bytes"
    FIGURES[f"weights {model} pause"] = Figure(f"pause that running requests see, {model}", copy, at_most=2)
    FIGURES[f"weights {model} first token"] = Figure(f"optimiser step to first token under it, {model}", copy, at_most=4)
    FIGURES[f"weights {model} publishing"] = Figure(f"seconds of publishing inside a learner's step, {model}")
for model, flops, speed in (("tiny", None, None), ("smollm2", 0.65, 3.0)):
    trl, once = "TRL's trainer, same batch", "shared prompts counted once"
    FIGURES[f"grpo_step {model} flops"] = Figure(f"8·N·T flop/s of a step, {once}, {model}", "measured sgemm", flops)
    FIGURES[f"grpo_step {model} trl"] = Figure(f"GRPO steps/s, {model}", trl, speed)
    FIGURES[f"grpo_step {model} memory"] = Figure(f"peak memory of the GRPO learner, {model}", trl, at_most=0.8)
FIGURES["streams rate"] = Figure("groups/s of 20 kB through all three streams", "plain XADDs of the same payloads", 0.5)
FIGURES["streams p99"] = Figure("p99 from issue to the learner at 100 groups/s, ms", at_most=10)
FIGURES["streams memory"] = Figure("server memory of a waiting group", "its payload")
for sigma in SIGMAS:
    what = f"steps/s at η = 1, log-normal lengths with σ = {sigma:g}"
    FIGURES[f"asynchrony {sigma:g} bound"] = Figure(what, "1 / max(generation, training)", 0.95)
    FIGURES[f"asynchrony {sigma:g} law"] = Figure(what, "an ideal schedule under the same bound on staleness", 0.95)
    FIGURES[f"asynchrony {sigma:g} sync"] = Figure(what, "η = 0")
FIGURES["asynchrony real"] = Figure("steps/s of `tiny` at η = 1", "η = 0", 1.5)
for k in VOTES:
    FIGURES[f"judging {k} verdicts"] = Figure(f"verdicts/s at k = {k}", "k = 1" if k > 1 else "")
    FIGURES[f"judging {k} tokens"] = Figure(f"tokens computed for a verdict at k = {k}")
FIGURES["judging 32 reuse"] = Figure("prompt tokens of 32 votes that are read from the prefix cache", at_least=0.9)
FIGURES["judging 32 blocks"] = Figure(
    "prompt tokens of 32 votes that are read from the prefix cache", "whole blocks of 32", 0.9
)
FIGURES["serving rate"] = Figure("votes/s of a reward server, 64 callers", "its engine alone on the same prompts", 0.9)
FIGURES["serving p50"] = Figure("median time of a verdict of 8 votes, 64 callers, s")
FIGURES["serving p99"] = Figure("p99 of the same, s")
FIGURES["serving memory"] = Figure(
    "private memory of all processes of the server, at the end", "a third of the way", at_most=1.05
)
FIGURES["serving overload"] = Figure("votes/s of a reward server, 512 callers, most of them refused", "64 callers")
FIGURES["start first step"] = Figure("submit to first optimiser step, s", "imports and start of one engine alone")
FIGURES["start seconds"] = Figure("submit to first optimiser step, s", at_most=45)
for workers in WORKERS:
    what = f"groups/s, workers with fake engines: {workers}"
    FIGURES[f"scaling {workers}"] = Figure(what, "the engines' own rate together", 0.9)
FIGURES["fleet model"] = Figure("groups/s of 16 workers with fake engines, by the model", "the same, measured")
for workers in FLEETS:
    what = f"groups/s of {workers:,} workers with 27B weights, by the model"
    FIGURES[f"fleet {workers}"] = Figure(what, "the engines' own rate together", 0.9)
FIGURES["peer seconds"] = Figure("start of `tiny` to 90 % of held-out pairs right, s")
FIGURES["peer completions"] = Figure("completions trained/s of `tiny`, generation included")
FIGURES["peer seconds trl"] = Figure("whole task of `tiny`, to 90 % right, in an hour", "TRL's trainer, same task", 2.5)
FIGURES["peer completions trl"] = Figure("completions trained/s of `tiny`, generation included", "TRL's trainer, same task", 2)
for when, policy in POLICIES.items():
    bought = f"accuracy that 1,000 tokens buy, {policy}"
    FIGURES[f"guiding {when}"] = Figure(f"{bought}, meta-guided votes", "plain votes")
