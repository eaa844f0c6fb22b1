"""The rows of the paper's tables 2, 6, 7, 13 and 15 (arXiv:2504.02495 v3): what each one is, and its figures in per cent.

Not among them: other methods (scalar and pairwise reward models, and "LLM-as-a-Judge", which the paper trains on pairs alone);
models of its own that are not released and have no recipe here (16B without MATH, 230B, 671B); and table 12 (PPE Correctness
59.8 -> 91.6, the judge shown a reference): no column of PPE's sets is known here to hold a right answer. Own rows that hold one
are judged with it by `launch/evaluate.py` and `prompts.show=[reference]`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from grm.macro import OVERALL, PPE_CORRECTNESS, PPE_PREFERENCE, REALMISTAKE, REWARD_BENCH, RMB, Mean, Pool

POLICY_27B = "BBQGOD/DeepSeek-GRM-27B"
META_RM_27B = "BBQGOD/DeepSeek-GRM-27B-MetaRM"
POLICY_16B = "BBQGOD/DeepSeek-GRM-16B"
INSTRUCT = "google/gemma-2-27b-it"
RELEASED = (POLICY_27B, POLICY_16B)
TRAINED = ""  # the model of a row that has to be trained first

NO_COLD_START, NO_GENERAL = "cold_start.enabled=false", "cold_start.general=[]"
WITHOUT_MATH = (  # data.train of the recipe without its sources of mathematics
    "hf:openbmb/UltraFeedback",
    "hf:NCSOFT/offsetbias",
    "hf:Skywork/Skywork-Reward-Preference-80K-v0.2",
    "hf:nvidia/HelpSteer2",
)

GROUPS: Mapping[str, Mean | Pool] = {
    group.name: group for group in (REWARD_BENCH, PPE_PREFERENCE, PPE_CORRECTNESS, RMB, OVERALL, REALMISTAKE)
}
SOURCES: Mapping[str, str] = {
    REWARD_BENCH.name: "reward-bench",
    PPE_PREFERENCE.name: "ppe-preference",
    PPE_CORRECTNESS.name: "ppe-correctness",
    RMB.name: "rmb",
    REALMISTAKE.name: "realmistake",
}
"""{benchmark: its source, `bench:<source>`}; `overall` is the mean of the first four."""

# Preferences of each benchmark as published, for the cost: pairs and lists; PPE's people called about a third of theirs ties.
SIZES: Mapping[str, int] = {
    "reward-bench": 2985,
    "ppe-preference": 16038,
    "ppe-correctness": 12775,
    "rmb": 21000,
    "realmistake": 900,
}
SINGLE = {"realmistake"}  # benchmarks of single responses, which have one order


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperRow:
    """A row of the paper's tables."""

    what: str
    """In words."""
    model: str = TRAINED
    """The released model; TRAINED: there is none, so it has to be trained."""
    meta_rm: str = ""
    """The released meta-RM that guides the votes; "": plain votes."""
    k: int = 0
    """Votes; 0: one greedy judgement."""
    chosen: Literal["half", "quarter", "one"] = "half"
    """Of the votes, those that the meta-RM chooses (k_meta)."""
    overrides: tuple[str, ...] = ()
    """What differs from the recipe in training (`launch/run.py --config gemma2-27b`)."""
    cold_start_only: bool = False
    """The row is of the fine-tuned policy, before online RL."""
    evaluation: tuple[str, ...] = ()
    """Overrides of the evaluation."""
    paper: Mapping[str, float] = field(default_factory=dict)
    """The paper's figures, in per cent, by the names of `GROUPS`."""

    @property
    def has_cold_start(self) -> bool:
        """Whether it is trained here, from a cold start."""
        return self.model == TRAINED and NO_COLD_START not in self.overrides

    @property
    def figure(self) -> str:
        """The name of its figure in a table of preferences of n >= 2 responses."""
        few = "" if self.chosen == "half" else f"_{self.chosen}"
        return f"guided@{self.k}{few}" if self.meta_rm else f"vote@{self.k}" if self.k else "greedy"

    @property
    def area(self) -> str:
        """The name of its figure for single responses (ReaLMistake)."""
        return f"auc_{self.figure}"


def _five(reward_bench: float, preference: float, correctness: float, rmb: float, overall: float) -> dict[str, float]:
    names = (REWARD_BENCH.name, PPE_PREFERENCE.name, PPE_CORRECTNESS.name, RMB.name, OVERALL.name)
    return dict(zip(names, (reward_bench, preference, correctness, rmb, overall), strict=True))


ROWS: Mapping[str, PaperRow] = {
    "grm-27b-greedy": PaperRow(
        what="DeepSeek-GRM-27B, greedy",
        model=POLICY_27B,
        paper=_five(86.0, 64.7, 59.8, 69.0, 69.9) | {REALMISTAKE.name: 72.2},
    ),
    "grm-27b@1": PaperRow(
        what="DeepSeek-GRM-27B, one judgement at T = 0.5",
        model=POLICY_27B,
        k=1,
        paper=_five(85.2, 62.4, 59.5, 64.4, 67.9),
    ),
    "grm-27b@8": PaperRow(
        what="DeepSeek-GRM-27B, 8 votes",
        model=POLICY_27B,
        k=8,
        paper=_five(87.7, 64.9, 60.3, 69.5, 70.6) | {REALMISTAKE.name: 74.4},
    ),
    "grm-27b@32": PaperRow(
        what="DeepSeek-GRM-27B, 32 votes",
        model=POLICY_27B,
        k=32,
        paper=_five(88.5, 65.3, 60.4, 69.7, 71.0),
    ),
    "grm-27b-meta@8": PaperRow(
        what="DeepSeek-GRM-27B, 4 of 8 votes chosen by the meta-RM",
        model=POLICY_27B,
        meta_rm=META_RM_27B,
        k=8,
        paper=_five(89.8, 66.4, 63.0, 68.8, 72.0),
    ),
    "grm-27b-meta@32": PaperRow(
        what="DeepSeek-GRM-27B, 16 of 32 votes chosen by the meta-RM",
        model=POLICY_27B,
        meta_rm=META_RM_27B,
        k=32,
        paper=_five(90.4, 67.2, 63.2, 70.3, 72.8),
    ),
    "grm-27b-meta1@32": PaperRow(
        what="DeepSeek-GRM-27B, 1 of 32 votes chosen by the meta-RM",
        model=POLICY_27B,
        meta_rm=META_RM_27B,
        k=32,
        chosen="one",
        paper=_five(88.5, 67.1, 65.2, 65.2, 71.5),
    ),
    "grm-27b-meta8@32": PaperRow(
        what="DeepSeek-GRM-27B, 8 of 32 votes chosen by the meta-RM",
        model=POLICY_27B,
        meta_rm=META_RM_27B,
        k=32,
        chosen="quarter",
        paper=_five(89.7, 67.2, 64.7, 69.1, 72.7),
    ),
    "grm-16b-greedy": PaperRow(
        what="DeepSeek-GRM-16B, greedy",
        model=POLICY_16B,
        paper={REWARD_BENCH.name: 82.9, REALMISTAKE.name: 64.9},
    ),
    "ours": PaperRow(what="the whole recipe, trained here, greedy", paper=_five(86.0, 64.7, 59.8, 69.0, 69.9)),
    "ours@32": PaperRow(what="the whole recipe, trained here, 32 votes", k=32, paper=_five(88.5, 65.3, 60.4, 69.7, 71.0)),
    "rft": PaperRow(what="the cold start alone, greedy", cold_start_only=True, paper=_five(84.5, 64.1, 59.6, 67.0, 68.8)),
    "rft@1": PaperRow(
        what="the cold start alone, one judgement at T = 0.5",
        cold_start_only=True,
        k=1,
        paper=_five(84.0, 62.2, 59.4, 65.8, 67.8),
    ),
    "rft@8": PaperRow(
        what="the cold start alone, 8 votes",
        cold_start_only=True,
        k=8,
        paper=_five(85.3, 64.5, 59.7, 67.7, 69.3),
    ),
    "no-rejective-no-rl": PaperRow(
        what="neither sampled judgements nor RL: an instruct model (the paper: its own, of general data alone), greedy",
        model=INSTRUCT,
        paper=_five(81.5, 61.8, 57.8, 63.1, 66.1) | {REALMISTAKE.name: 65.8},
    ),
    "no-principles": PaperRow(
        what="without principles, greedy",
        overrides=("prompts.principles=false",),
        evaluation=("prompts.principles=false",),
        paper=_five(82.0, 62.8, 58.2, 67.1, 67.5),
    ),
    "no-principles@8": PaperRow(
        what="without principles, 8 votes",
        k=8,
        overrides=("prompts.principles=false",),
        evaluation=("prompts.principles=false",),
        paper=_five(83.0, 63.2, 58.6, 67.1, 68.0),
    ),
    "no-rejective": PaperRow(
        what="online RL without sampled judgements in the cold start, greedy",
        overrides=(NO_COLD_START,),
        paper=_five(84.0, 63.2, 59.4, 68.0, 68.7),
    ),
    "rft-no-hinted": PaperRow(
        what="the cold start without hinted sampling, greedy",
        overrides=("cold_start.hinted=false",),
        cold_start_only=True,
        paper=_five(83.0, 63.8, 58.2, 65.8, 68.0),
    ),
    "rft-no-plain": PaperRow(
        what="the cold start with hinted sampling only, greedy",
        overrides=("cold_start.samples=0",),
        cold_start_only=True,
        paper=_five(82.5, 63.4, 58.6, 65.2, 67.4),
    ),
    "rft-no-general": PaperRow(
        what="the cold start without general instruction data, greedy",
        overrides=(NO_GENERAL,),
        cold_start_only=True,
        paper=_five(79.1, 59.2, 51.5, 63.2, 63.3),
    ),
    "no-math": PaperRow(
        what="without the MATH data, greedy",
        overrides=(f"data.train=[{', '.join(WITHOUT_MATH)}]",),
        paper={REWARD_BENCH.name: 83.0},
    ),
}
