"""TRL's own trainer on the task of tests/bench/peer.py, in an environment of its own (tests/bench/trl_step.py says which).

TRL's code is run as it is, generation with transformers included; only the prompts come as token ids, which are ours. Of this
project it uses `grm` alone: the rule, and how a judgement is read. Prints a line of JSON for each step and each evaluation.
"""

import json
import sys
import time
from pathlib import Path
from statistics import fmean
from typing import Any

try:
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer
except ImportError as error:
    sys.exit(f"{error}: TRL_PYTHON must name a Python with TRL 1.16, see the head of tests/bench/trl_step.py")

from grm.judgement import Judgement, parse_training, unshuffle
from grm.lenient import read
from grm.rewards import rule_reward
from grm.voting import credit

PLAN = json.loads(Path(sys.argv[1]).read_text())


class GivenPrompts(GRPOTrainer):
    """Its prompts are numbers of the plan's rows."""

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [PLAN["train"][int(prompt)]["ids"] for prompt in prompts], None, {}


def rewards(prompts: list[str], completions: list[str], completion_ids: list[list[int]], **more: Any) -> list[float]:
    """Return what `grm.rewards.rule_reward` gives each completion."""
    return [
        reward(PLAN["train"][int(prompt)], text, cut_short=ids[-1] != PLAN["end"])
        for prompt, text, ids in zip(prompts, completions, completion_ids, strict=True)
    ]


def reward(row: dict[str, Any], text: str, *, cut_short: bool) -> float:
    n = len(row["permutation"])
    found = parse_training(text, n, cut_short=cut_short)
    scores = unshuffle(found.scores, row["permutation"]) if isinstance(found, Judgement) else None
    return rule_reward(scores, row["label"], n)


def accuracy(model: Any, tokenizer: Any) -> float:
    """Return that of greedy judgements of the held-out rows; a tie is split, an unparsable judgement is wrong."""
    rows = PLAN["heldout"]
    batch = tokenizer.pad({"input_ids": [row["ids"] for row in rows]}, padding_side="left", return_tensors="pt")
    model.eval()
    with torch.no_grad():
        ids = model.generate(**batch, do_sample=False, max_new_tokens=PLAN["max_new_tokens"])[:, batch["input_ids"].size(1) :]
    model.train()
    return fmean(
        right(row, text, cut_short=PLAN["end"] not in own.tolist())
        for row, own, text in zip(rows, ids, tokenizer.batch_decode(ids, skip_special_tokens=True), strict=True)
    )


def right(row: dict[str, Any], text: str, *, cut_short: bool) -> float:
    found, _ = read(text, len(row["permutation"]), low=1, high=10, cut_short=cut_short, thinks=False, clip=False)
    return credit(unshuffle(found.scores, row["permutation"]) if isinstance(found, Judgement) else None, row["label"]).split


class Clock(TrainerCallback):
    """Times the steps, evaluates between them with the clock stopped, and ends at the goal."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, self._stopped_s = tokenizer, 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self._began = time.time()

    def on_step_end(self, args: Any, state: Any, control: Any, *, model: Any, **more: Any) -> None:
        ended = time.time()
        print(json.dumps({"version": state.global_step, "seconds": ended - self._began}), flush=True)
        if state.global_step % PLAN["every"]:
            return
        found = accuracy(model, self._tokenizer)
        clock = ended - PLAN["began"] - self._stopped_s
        print(json.dumps({"version": state.global_step, "accuracy": found, "clock": clock}), flush=True)
        self._stopped_s += time.time() - ended
        control.should_training_stop = found >= PLAN["goal"]


def main() -> None:
    torch.set_num_threads(PLAN["threads"])
    settings = GRPOConfig(
        output_dir=PLAN["folder"],
        seed=PLAN["seed"],
        per_device_train_batch_size=PLAN["groups"] * PLAN["samples"],  # small enough here to be one micro-batch
        num_generations=PLAN["samples"],
        max_completion_length=PLAN["max_new_tokens"],
        temperature=PLAN["temperature"],
        shuffle_dataset=False,
        beta=PLAN["beta"],
        learning_rate=PLAN["lr"],
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=PLAN["warmup_steps"],
        max_grad_norm=PLAN["grad_clip"],
        loss_type="grpo",
        max_steps=PLAN["steps"],
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        logging_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
    )
    tokenizer = AutoTokenizer.from_pretrained(PLAN["model"])
    trainer = GivenPrompts(
        model=PLAN["model"],
        reward_funcs=rewards,
        args=settings,
        train_dataset=Dataset.from_dict({"prompt": [str(number) for number in range(len(PLAN["train"]))]}),
        processing_class=tokenizer,
        callbacks=[Clock(tokenizer)],
    )
    trainer.train()


if __name__ == "__main__":
    main()
