"""The section `grpo` of the configuration, as those in sections.py."""

from typing import Annotated, Literal

from configs.sections import Count, Natural, NonNegative, OneOf, Positive, Section

OWN_BOUNDS = {
    "tis": (0.0, 2.0),
    "sequence_mask": (0.0, 3.0),  # TRL 1.16: vllm_importance_sampling_clip_max
    "geometric": (0.99, 1.01),
    "icepop": (0.5, 5.0),
    "clip": (0.8, 1.2),
    "none": (0.0, float("inf")),
}
"""Bounds of the importance ratio, by `grpo.correction`."""


class GRPOConfig(Section):
    """Online RL of the policy (GRPO)."""

    steps: Count = 900
    """Optimiser steps, each of which publishes a policy version (paper: 900)."""
    batch_groups: Count = 128
    """B, groups per optimiser step (paper: 128 groups of 4 completions)."""
    max_staleness: Natural = 1
    """eta, policy versions that a trained group may be behind. 0 is synchronous: sampling waits for training."""
    stale: Literal["wait", "drop"] = "wait"
    """How `max_staleness` is kept: `wait` for groups before they are too stale (nothing is lost), or `drop` those that are."""
    lr: Positive = 4e-7
    """Learning rate after the warm-up; it stays there."""
    warmup_steps: Natural = 0
    """Optimiser steps over which the learning rate rises to `lr`."""
    weight_decay: NonNegative = 0.0
    """Decoupled weight decay of AdamW."""
    grad_clip: Positive = 1.0
    """Largest norm of the gradient; a longer one is scaled down to it."""
    beta: NonNegative = 0.08
    """Weight in the loss of the KL divergence to the reference (paper: 0.08 at 27B). 0: none, and no reference is loaded."""
    kl: Literal["unbiased", "k3"] = "unbiased"
    """Estimator of that divergence. `unbiased`: k3 times the importance ratio, which has its gradient (DeepSeek-V3.2). `k3`: as
    in GRPO of 2024, with the gradient of KL(reference, policy) instead."""
    reward: str = ""
    """A reward rule of your own, FILE.py:FUNCTION (`grm/own_rules.py`), on a path that all nodes see. Above 0 counts as right.
    Empty: the paper's, +1 where the best response got the best score, else -1."""
    correction: Annotated[str, OneOf(("tis", "sequence_mask", "geometric", "icepop", "clip", "none"))] = "tis"
    """What is done about tokens that an older policy, or the engine's rounding, sampled: ratio = new / old probability.
    `tis`: weigh each token by its ratio, cut to the bounds. `icepop`: leave a token out of bounds out. `sequence_mask`,
    `geometric`: the same with the product, or the geometric mean, of a completion's ratios. `clip`: PPO's objective. `none`.
    Or a function of your own, FILE.py:FUNCTION (`learner/own_loss.py`)."""
    ratio_low: NonNegative = 0.0
    """Lower bound of that ratio. 0: the correction's own (geometric 0.99; icepop 0.5; clip 0.8, that is 1 - epsilon)."""
    ratio_high: NonNegative = 0.0
    """Upper bound of that ratio. 0: the correction's own (tis 2; sequence_mask 3; geometric 1.01; icepop 5; clip 1.2)."""
    advantages: Annotated[str, OneOf(("normalised", "centred"))] = "normalised"
    """Advantage of a completion. `normalised`: reward minus the group's mean, over the group's standard deviation (the
    paper's). `centred`: not divided by that (Dr. GRPO). Or a function of your own, FILE.py:FUNCTION."""
    normalise: Literal["sequence", "token", "constant"] = "sequence"
    """How the loss is averaged. `sequence`: over the tokens of a completion, then over completions (GRPO). `token`: over all
    tokens of the batch (DAPO). `constant`: the sum over tokens by completions times `rollout.max_new_tokens` (Dr. GRPO)."""
    overlong: Literal["keep", "mask", "penalty"] = "keep"
    """Completions that were cut at the token limit; they are wrong in any case. `keep`: train on them like on others. `mask`:
    leave them out. `penalty`: whatever ends in the last fifth before the limit loses up to 1 of its reward (DAPO)."""
    filter: bool = True
    """Replace groups that are all right or all wrong, as they have no policy gradient (DAPO). false: train on them too,
    for their KL (the paper's); then `beta` weighs more, by 1 / share of the other groups."""
    max_skips: Count = 3
    """Batches in a row whose loss or gradient is not finite before the run fails. Each of them is skipped."""

    @property
    def ratio_bounds(self) -> tuple[float, float]:
        """Bounds of the importance ratio, the correction's own where none are set."""
        low, high = OWN_BOUNDS.get(self.correction, OWN_BOUNDS["none"])
        return self.ratio_low or low, self.ratio_high or high
