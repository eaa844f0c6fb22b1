"""Our loss beside TRL's own, on 400 random batches for each form that both have. By hand, as TRL is no requirement here:

    python -m venv VENV && VENV/bin/pip install "trl==1.16.*" torch transformers accelerate datasets
    VENV/bin/python -m tests.learner.compare_with_trl

TRL's code is run, not written again: `GRPOTrainer._compute_loss` with our log-probs in place of a model's, and the block
of `_generate_and_score_completions` that makes the importance ratios. Prints a table; exits with 1 where a difference is
over 1e-6.

Without a counterpart in TRL 1.16: `geometric`; `unbiased` with w other than 1 (TRL multiplies the KL by rho alone); the
limits of k3 and of log-ratios (batches stay within them). `normalised` has 1e-4 there and 1e-6 here: both get our advantages.
"""

import ast
import inspect
import itertools
import math
import random
import sys
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from types import CodeType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from learner.advantages import ADVANTAGES
from learner.overlong import OVERLONG
from tests.learner.plain_loss import Form, Group, random_batch
from tests.learner.test_loss_forms import LIMIT, ours

try:
    import trl
    from trl import GRPOTrainer
    from trl.rewards import get_soft_overlong_punishment
except ImportError as error:
    sys.exit(f"{error}: this comparison needs TRL 1.16 in a virtual environment of its own, see the head of {__file__}")

BATCHES, ALLOWED = 400, 1e-6
LOSS_TYPES = {"sequence": ["grpo"], "token": ["dapo", "bnpo"], "constant": ["dr_grpo"]}
MODES = {"tis": "token_truncate", "icepop": "token_mask", "sequence_mask": "sequence_mask"}
BOUNDS = {"none": (0.0, math.inf), "tis": (0.0, 2.0), "icepop": (0.5, 5.0), "sequence_mask": (0.0, 3.0), "clip": (0.8, 1.28)}


def ratio_code() -> CodeType:
    """Return the block of TRL that makes the importance ratios, compiled."""
    source = textwrap.dedent(inspect.getsource(GRPOTrainer._generate_and_score_completions))
    blocks = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.If) and "vllm_importance_sampling_ratio = torch.exp(" in ast.unparse(node)
    ]
    innermost = min(blocks, key=lambda node: len(ast.unparse(node)))
    return compile(ast.Module(body=[innermost], type_ignores=[]), "trl", "exec")


RATIO_CODE = ratio_code()


def padded(batch: list[Group], name: str) -> Tensor:
    """Return one value per token, a row per completion, 0 behind its end."""
    rows = [getattr(completion, name) for group in batch for completion in group]
    return torch.tensor([row + [0.0] * (LIMIT - len(row)) for row in rows], dtype=torch.float64)


def trainer_of(form: Form, loss_type: str, new: Tensor) -> SimpleNamespace:
    """Return what `_compute_loss` reads of a trainer."""
    accelerator = SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x, sync_gradients=True)
    return SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *args, **options: (new, torch.zeros_like(new), None),
        _metrics=defaultdict(lambda: defaultdict(list)),
        _entropy_bonus_enabled=False,
        accelerator=accelerator,
        args=SimpleNamespace(use_bias_correction_kl=form.kl == "unbiased", delta=None, steps_per_generation=1),
        aux_loss_enabled=False,
        beta=form.beta,
        current_gradient_accumulation_steps=1,
        epsilon_high=form.high - 1,
        epsilon_low=1 - form.low,
        importance_sampling_level="token",
        loss_type=loss_type,
        max_completion_length=LIMIT,
        model=SimpleNamespace(training=True),
        off_policy_mask_threshold=None,
        top_entropy_quantile=1.0,
        use_vllm=form.correction in MODES,
        vllm_importance_sampling_clip_max=form.high,
        vllm_importance_sampling_clip_min=form.low or None,
        vllm_importance_sampling_correction=form.correction in MODES,
        vllm_importance_sampling_mode=MODES.get(form.correction),
    )


def theirs(batch: list[Group], form: Form, loss_type: str) -> tuple[float, list[float]]:
    """Return TRL's loss and gradient."""
    completions = [completion for group in batch for completion in group]
    mask = torch.tensor([[float(at < len(c.new)) for at in range(LIMIT)] for c in completions], dtype=torch.float64)
    real = mask.bool()
    if form.overlong == "mask":
        mask = mask * torch.tensor([[float(not c.truncated)] for c in completions])
    rewards = [[c.reward for c in group] for group in batch]
    new = padded(batch, "new").requires_grad_()
    trainer = trainer_of(form, loss_type, new)
    inputs: dict[str, Any] = {
        "prompt_ids": torch.zeros(len(completions), 1),
        "prompt_mask": torch.ones(len(completions), 1),
        "completion_ids": torch.zeros(len(completions), LIMIT),
        "completion_mask": mask,
        "advantages": torch.tensor([a for group in rewards for a in ADVANTAGES[form.advantages](group)], dtype=torch.float64),
        "ref_per_token_logps": padded(batch, "reference"),
        "old_per_token_logps": padded(batch, "behaviour" if form.correction == "clip" else "old"),
        "num_items_in_batch": mask.sum(),
    }
    if trainer.use_vllm:
        names = {"self": trainer, "torch": torch, "math": math, "completion_mask": mask, "tool_mask": None}
        names |= {"old_per_token_logps": padded(batch, "old"), "sampling_per_token_logps": padded(batch, "behaviour")}
        exec(RATIO_CODE, names)
        inputs["importance_sampling_ratio"] = names["vllm_importance_sampling_ratio"]
    loss = GRPOTrainer._compute_loss(trainer, None, inputs)
    loss.backward()
    assert new.grad is not None
    return loss.item(), new.grad[real].tolist()


def forms() -> Iterator[tuple[Form, str]]:
    """Yield each form that TRL has too, with its loss type."""
    for correction, kl, normalise in itertools.product(BOUNDS, ["k3", "unbiased"], LOSS_TYPES):
        if kl == "unbiased" and correction in MODES:
            continue
        low, high = BOUNDS[correction]
        form = Form(correction=correction, kl=kl, normalise=normalise, low=low, high=high)
        for loss_type, overlong in itertools.product(LOSS_TYPES[normalise], ["keep", "mask"]):
            yield replace(form, overlong=overlong), loss_type


def differences(form: Form, loss_type: str) -> tuple[float, float]:
    """Return the largest difference of the loss and of a token's derivative."""
    rng, loss, gradient = random.Random(f"{form}{loss_type}"), 0.0, 0.0
    for _ in range(BATCHES):
        chosen = replace(form, beta=rng.choice([0.0, 0.08, 0.5]), advantages=rng.choice(list(ADVANTAGES)))
        batch = random_batch(rng, LIMIT, rng.choice([0.01, 0.1, 0.5, 1.0]), 0.5, on_policy=True)
        for completion in (completion for group in batch for completion in group):
            limits = [(value - 10, value + 2.5) for value in completion.new]
            completion.reference = [min(max(r, a), b) for r, (a, b) in zip(completion.reference, limits, strict=True)]
        our_loss, our_gradient = ours(batch, chosen)
        their_loss, their_gradient = theirs(batch, chosen, loss_type)
        loss = max(loss, abs(our_loss - their_loss))
        gradient = max(gradient, *(abs(a - b) for a, b in zip(our_gradient, their_gradient, strict=True)))
    return loss, gradient


def overlong_difference() -> float:
    """Return the largest difference of the soft overlong punishment, over all lengths."""
    punish = get_soft_overlong_punishment(max_completion_len=100, soft_punish_cache=20)
    scores = punish(completion_ids=[[0] * length for length in range(1, 101)])
    rewards, _ = OVERLONG["penalty"]([0.0] * 100, list(range(1, 101)), [False] * 100, 100)
    return max(abs(a - b) for a, b in zip(scores, rewards, strict=True))


def main() -> int:
    """Compare everything. Returns the exit status."""
    print(f"TRL {trl.__version__}, torch {torch.__version__}, {BATCHES} batches each\n")
    print("| correction | kl | normalise | overlong | TRL's loss_type | loss | gradient |\n|---|---|---|---|---|---|---|")
    worst = overlong_difference()
    for form, loss_type in forms():
        loss, gradient = differences(form, loss_type)
        cells = [form.correction, form.kl, form.normalise, form.overlong, loss_type, f"{loss:.1e}", f"{gradient:.1e}"]
        print(f"| {' | '.join(cells)} |", flush=True)
        worst = max(worst, loss, gradient)
    print(
        f"\noverlong penalty against get_soft_overlong_punishment: {overlong_difference():.1e}\nlargest difference: {worst:.1e}"
    )
    return int(worst > ALLOWED)


if __name__ == "__main__":
    sys.exit(main())
