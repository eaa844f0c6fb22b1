"""The judging accuracy of the model while it is fine-tuned: greedy judgements of a few preferences that it does not learn from.

training preferences ─not learnt from─▶ JudgedPrompts ─▶ SFTLearner.judge xW ─▶ texts ─▶ rule ─▶ accuracy ─▶ SFTLearner.settle

They come from the training side, never from the run's held-out preferences: those that the cold start did not sample, and the
share that `learner.sft_examples.split` holds out. That share is chosen by hash among all that were sampled, rejected ones too,
so the judged preferences are neither easier nor harder than the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from actors.reward import apply_rule
from buffer import json_lines
from configs.schema import Config
from grm.own_rules import load_rule
from grm.preferences import Preference
from grm.rewards import Rule, paper_rule
from launch.setup.preflight import RunInputs
from launch.setup.prompt_source import Draft
from launch.setup.tokenizer import Tokenizer
from learner.generation import GreedyRequest
from learner.sft_examples import heldout_preferences, preference_hash

MOST = 64  # preferences judged at each measurement: an accuracy of 70 % is then known to 6 points (one standard error)


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedPrompts:
    """Prompts whose answers are judgements of known labels."""

    drafts: Sequence[Draft]
    """The prompts, at least one, of one view each."""
    preferences: Sequence[Preference]
    """Their preferences, in the same order."""
    tokenizer: Tokenizer
    """The policy's."""
    limit: int
    """Tokens of a judgement at most."""
    rule: Rule = paper_rule
    """What says whether a judgement is right."""

    def request(self) -> GreedyRequest:
        """Returns what the learner is asked. It ends where the engine does: the untrained model may end in another token than
        that of the chat template."""
        return GreedyRequest(
            prompts=tuple(draft.views[0].token_ids for draft in self.drafts),
            limit=self.limit,
            end=self.tokenizer.end_token,
            other_ends=tuple(self.tokenizer.other_ends),
        )

    def accuracy(self, completions: Sequence[Sequence[int]]) -> float:
        """Returns the share of completions, in the order of the prompts, that the rule rewards."""
        right, ends = 0, self.request().ends
        for preference, draft, ids in zip(self.preferences, self.drafts, completions, strict=True):
            text, cut_short = self.tokenizer.decode(ids), not set(ids[-1:]) & set(ends)
            verdict = apply_rule(preference, draft.views[0].permutation, text, cut_short=cut_short, rule=self.rule)
            right += verdict.reward > 0
        return right / len(self.drafts)


def judged_prompts(config: Config, inputs: RunInputs, *, sampled: Path, dataset: Path) -> JudgedPrompts:
    """Returns the prompts to judge, a function of the config and the data.

    Args:
        config: The run's.
        inputs: Its training preferences and their prompts.
        sampled: The cold start's `sampled.jsonl`.
        dataset: What was kept of it: `dataset.jsonl`, judgements before general data.

    Raises:
        ValueError: Judgements of fewer than two preferences were kept.
    """
    seed = config.run.seed
    asked = {row["preference"] for _, row in json_lines.rows(sampled)}
    last = heldout_preferences(_learnt(dataset), seed=seed)[-1]
    names = {p.question.id: index for index, p in enumerate(inputs.train)}
    limit = preference_hash(seed, last)
    free = [name for name in names if name not in asked or preference_hash(seed, name) <= limit]
    drafts: list[Draft] = []
    for name in sorted(free, key=lambda name: preference_hash(seed, name)):
        if len(drafts) < MOST and (draft := inputs.prompts.draft(names[name], f"fine-tuning/{seed}/{name}")):
            drafts.append(draft)
    return JudgedPrompts(
        drafts=drafts,
        preferences=[inputs.train[names[draft.preference]] for draft in drafts],
        tokenizer=inputs.tokenizer,
        limit=config.rollout.max_new_tokens,
        rule=load_rule(config.grpo.reward),
    )


def _learnt(dataset: Path) -> list[str]:
    """Returns the preference of each judgement in the data set."""
    found = []
    for _, row in json_lines.rows(dataset):
        if row["kind"] == "general":
            break
        found.append(row["preference"])
    return found
