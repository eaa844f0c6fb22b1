"""The section `grpo` of the configuration, as those in sections.py."""

from typing import Literal

from configs.sections import Count, Natural, NonNegative, Positive, Section

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
    """eta, policy versions that a trained group may be behind. 0 is the synchronous algorithm."""
    stale: Literal["wait", "drop"] = "wait"
    """How the bound holds: `wait` for groups that would become too stale, or `drop` and count them."""
    lr: Positive = 4e-7
    """Learning rate after the warm-up; it stays there."""
    warmup_steps: Natural = 0
    """Optimiser steps over which the learning rate rises to `lr`."""
    weight_decay: NonNegative = 0.0
    """Decoupled weight decay of AdamW."""
    grad_clip: Positive = 1.0
    """Largest norm of the gradient; a longer one is scaled down to it."""
    beta: NonNegative = 0.08
    """Weight of the KL divergence to the reference (paper: 0.08 at 27B). 0: no reference is loaded."""
    kl: Literal["unbiased", "k3"] = "unbiased"
    """Estimator of that divergence: `unbiased` (k3 times the importance ratio, DeepSeek-V3.2) or `k3` (plain, GRPO of 2024)."""
    correction: Literal["tis", "sequence_mask", "geometric", "icepop", "clip", "none"] = "tis"
    """Correction for tokens sampled by an older policy or another engine. `tis`: importance weight of a token, truncated.
    `icepop`: the same, 0 out of bounds. `sequence_mask`, `geometric`: product or geometric mean over the completion, 0 out of
    bounds. `clip`: PPO's clipped objective. `none`."""
    ratio_low: NonNegative = 0.0
    """Lower bound of the correction's ratio. 0: its own (geometric 0.99; icepop 0.5; clip 0.8, that is 1 - epsilon)."""
    ratio_high: NonNegative = 0.0
    """Upper bound of the correction's ratio. 0: its own (tis 2; sequence_mask 3; geometric 1.01; icepop 5; clip 1.2)."""
    advantages: Literal["normalised", "centred"] = "normalised"
    """Reward minus the group's mean, over its standard deviation (`normalised`, the paper's) or alone (`centred`, Dr. GRPO)."""
    normalise: Literal["sequence", "token", "constant"] = "sequence"
    """Average of the loss: per completion and then over completions (`sequence`, the paper's), over all tokens (`token`, DAPO),
    or the sum over tokens divided by completions times `rollout.max_new_tokens` (`constant`, Dr. GRPO)."""
    overlong: Literal["keep", "mask", "penalty"] = "keep"
    """Completions cut at the token limit: trained on like others (`keep`), left out (`mask`), or all in the last fifth before
    the limit lose up to 1 of their reward (`penalty`, DAPO)."""
    filter: bool = True
    """Replace groups with equal rewards, which have no policy gradient. false: train on them too, for their KL (the paper)."""
    max_skips: Count = 3
    """Batches in a row whose loss or gradient is not finite before the run fails. Each of them is skipped."""

    @property
    def ratio_bounds(self) -> tuple[float, float]:
        """Bounds of the importance ratio, the correction's own where none are set."""
        low, high = OWN_BOUNDS[self.correction]
        return self.ratio_low or low, self.ratio_high or high
