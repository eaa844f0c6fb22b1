"""Optimiser steps of TRL's own trainer on a given batch, one for each line of standard input. For tests/bench/grpo_step.py.

    python -m venv VENV && VENV/bin/pip install "trl==1.16.*" torch transformers accelerate datasets
    TRL_PYTHON=VENV/bin/python make bench

TRL's code is run as it is, chunked log-probs included; only what generates and scores completions is replaced, by the batch and
the reference's log-probs as TRL computes them. Prints a line of JSON for each step. TRL is no requirement of this project.
"""

import json
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

try:
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer
except ImportError as error:
    sys.exit(f"{error}: TRL_PYTHON must name a Python with TRL 1.16, see the head of {__file__}")

MICRO = 4  # completions of a micro-batch


class FixedBatch(GRPOTrainer):
    """Trains on the plan's completions instead of generating some."""

    plan: dict[str, Any]

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        groups = self.plan["groups"]
        prompts = torch.tensor([group["prompt"] for group in groups for _ in group["completions"]])
        completions = torch.tensor([ids for group in groups for ids in group["completions"]])
        advantages = [
            (reward - statistics.fmean(group["rewards"])) / statistics.pstdev(group["rewards"])
            for group in groups
            for reward in group["rewards"]
        ]
        ids = torch.cat([prompts, completions], dim=1)
        with torch.no_grad():
            reference, _, _ = self._get_per_token_logps_and_entropies(
                self.ref_model, ids, torch.ones_like(ids), completions.size(1), batch_size=MICRO
            )
        return {
            "prompt_ids": prompts,
            "prompt_mask": torch.ones_like(prompts),
            "completion_ids": completions,
            "completion_mask": torch.ones_like(completions),
            "advantages": torch.tensor(advantages),
            "num_items_in_batch": torch.tensor(completions.numel()),
            "ref_per_token_logps": reference,
        }


class Turns(TrainerCallback):
    """Waits for a line before each step, and prints what the step took."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if not sys.stdin.readline():
            sys.exit(0)
        self.began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": time.perf_counter() - self.began, "peak_mib": peak_mib}), flush=True)


def main() -> None:
    plan = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    samples = len(plan["groups"][0]["completions"])
    count = samples * len(plan["groups"])
    settings = GRPOConfig(
        output_dir=plan["folder"],
        per_device_train_batch_size=MICRO,
        gradient_accumulation_steps=count // MICRO,
        num_generations=samples,
        beta=plan["beta"],
        learning_rate=plan["lr"],
        lr_scheduler_type="constant",
        temperature=plan["temperature"],
        loss_type="grpo",
        max_steps=10**6,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        logging_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = FixedBatch(
        model=plan["model"],
        reward_funcs=lambda completions, **more: [0.0] * len(completions),
        args=settings,
        train_dataset=Dataset.from_dict({"prompt": ["unread"] * count}),
        processing_class=AutoTokenizer.from_pretrained(plan["model"]),
        callbacks=[Turns()],
    )
    trainer.plan = plan
    trainer.train()


if __name__ == "__main__":
    main()
