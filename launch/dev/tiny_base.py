"""Build the tiny world's base policy: `python launch/dev/tiny_base.py --out DIR --seed S`.

    vocabulary     byte-level BPE on the world's text; each line of the prompt's frame is one token
    reading        at first most lessons name all four levels, of one response, then of two, then of up to four
    judging        a growing share of the lessons, in the end all, imitate `grm.tiny_world.loose_judge`, hints included; a
                   tenth of them request no principles and imitate `unprincipled_judge`
    correctness    after the end of a judgement stands a token for whether it is right: + or -

This is plain supervised fine-tuning on the completion, on exactly the prompts that the system renders. The base learns the
format and sees the attributes, but chooses its principles by habit. It can also recognise a right judgement once it is
written, like a language model that has read more judgements than it could write: a meta-RM starts from that. The policy
never writes the correctness token, because it stops at the end token. The folder loads in transformers and vLLM;
`base.json` in it records the recipe, the loss curve and the frame.
"""

import argparse
import json
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from launch.dev.tiny_lessons import Lesson, judging_lessons, lessons_at

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FIXED_TEXTS = ("Specific Criteria:", "\nAnalysis:", "Analysis:", "\nScores: \\boxed{")  # in every completion; one token each
CORRECTNESS_WEIGHT = 8.0  # loss weight of that one token among the two dozen of a completion
REPORT_EVERY = 100  # steps between two points of the recorded loss curve


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Sizes and optimisation, as base.json records them."""

    seed: int
    """Of the lessons, their order and the initial weights."""
    steps: int = 3600
    """Optimiser steps."""
    rows: int = 16
    """Sequences per step."""
    lr: float = 1.5e-3
    """Peak of a warm-up and cosine schedule."""
    init: float = 0.15
    """Standard deviation of the initial weights; at the usual 0.02 attention stays flat, and reading starts very late."""
    hidden: int = 128
    """Width of the model."""
    layers: int = 3
    """Depth of the model."""
    vocabulary: int = 1024
    """Tokens at most."""
    context: int = 1024
    """Longest sequence, in tokens."""


def frame_lines(lessons: list[Lesson]) -> list[str]:
    """Returns the lines, with their line ends, that prompts share whatever the question; each becomes one token."""
    counts: Counter[str] = Counter()
    for lesson in lessons:
        content = "\n".join((lesson.question.query, *lesson.question.responses)).split("\n")
        lines = set(re.findall(r"[^\n]+\n*", lesson.prompt))
        counts.update(line for line in lines if line.strip("\n") not in content)
    return sorted(line for line, times in counts.items() if times >= 3)


def build_tokenizer(lessons: list[Lesson], recipe: Recipe) -> PreTrainedTokenizerFast:
    """Train the tokenizer; any text encodes and decodes unchanged, because the alphabet is all 256 bytes."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    added = [*frame_lines(lessons), *FIXED_TEXTS, "user\n", "assistant\n"]
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary - len(added),
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [text for lesson in lessons for text in (lesson.question.query, *lesson.question.responses)]
    core.train_from_iterator(texts + [lesson.completion for lesson in lessons], trainer)
    core.add_tokens([AddedToken(text, normalized=False) for text in added])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        additional_special_tokens=["<|im_start|>", "<|endoftext|>"],
        clean_up_tokenization_spaces=False,
        model_max_length=recipe.context,
        chat_template=CHAT,
    )


def build_model(tokenizer: PreTrainedTokenizerFast, recipe: Recipe) -> LlamaForCausalLM:
    config = LlamaConfig(
        hidden_size=recipe.hidden,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.hidden // 32,
        num_key_value_heads=recipe.hidden // 32,
        head_dim=32,  # the smallest that vLLM's CPU kernels take
        intermediate_size=recipe.hidden * 5 // 2,
        vocab_size=-(-len(tokenizer) // 64) * 64,
        max_position_embeddings=recipe.context,
        tie_word_embeddings=True,
        initializer_range=recipe.init,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    return LlamaForCausalLM(config)


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """The sequences of one step, padded on the right."""

    ids: torch.Tensor
    """Token ids, [rows, length]."""
    weights: torch.Tensor
    """How much each prediction counts, [rows, length - 1]."""


def collate(rows: list[tuple[list[int], list[int]]], pad: int, end: int) -> Batch:
    """Pad rows of (prompt ids, completion ids with the end token and, maybe, the correctness token)."""
    length = max(len(prompt) + len(completion) for prompt, completion in rows)
    ids = torch.full((len(rows), length), pad)
    weights = torch.zeros((len(rows), length - 1))
    for row, (prompt, completion) in enumerate(rows):
        ids[row, : len(prompt) + len(completion)] = torch.tensor(prompt + completion)
        weights[row, len(prompt) - 1 : len(prompt) + len(completion) - 1] = 1.0
        if completion[-1] != end:
            weights[row, len(prompt) + len(completion) - 2] = CORRECTNESS_WEIGHT
    return Batch(ids=ids, weights=weights)


def encode(tokenizer: PreTrainedTokenizerFast, lessons: list[Lesson]) -> list[tuple[list[int], list[int]]]:
    """Returns (prompt ids as a chat, completion ids with the end token and the correctness token) of each lesson."""
    chats = [
        tokenizer.apply_chat_template([{"role": "user", "content": lesson.prompt}], tokenize=False, add_generation_prompt=True)
        for lesson in lessons
    ]
    prompt_ids = tokenizer(chats, add_special_tokens=False)["input_ids"]
    answers = [lesson.completion + tokenizer.eos_token + lesson.correctness for lesson in lessons]
    return list(zip(prompt_ids, tokenizer(answers, add_special_tokens=False)["input_ids"], strict=True))


def batches(tokenizer: PreTrainedTokenizerFast, recipe: Recipe, *, pool: int = 10) -> Iterator[Batch]:
    """Yields `recipe.steps` batches of fresh lessons; the rows of a pool are sorted by length, so that little is padding."""
    rng = random.Random(f"batches/{recipe.seed}")
    for start in range(0, recipe.steps, pool):
        rows = encode(tokenizer, lessons_at(start, pool * recipe.rows, seed=recipe.seed, steps=recipe.steps))
        rows.sort(key=lambda row: len(row[0]) + len(row[1]))
        cuts = list(range(0, len(rows), recipe.rows))
        rng.shuffle(cuts)
        for cut in cuts[: recipe.steps - start]:
            yield collate(rows[cut : cut + recipe.rows], tokenizer.pad_token_id, tokenizer.eos_token_id)


def completion_loss(model: LlamaForCausalLM, batch: Batch) -> torch.Tensor:
    """Returns the weighted mean cross-entropy in nats. Attention is causal, so padding on the right needs no mask."""
    counts = batch.weights > 0
    states = model.model(batch.ids).last_hidden_state[:, :-1][counts]
    losses = F.cross_entropy(model.lm_head(states), batch.ids[:, 1:][counts], reduction="none")
    weights = batch.weights[counts]
    return (weights * losses).sum() / weights.sum()


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, *, stop_after: int) -> list[float]:
    """Fine-tune in place for the first `stop_after` steps of the recipe.

    Returns the loss curve: the mean loss (nats per token) of each REPORT_EVERY steps.
    """
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.lr, betas=(0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=recipe.lr, total_steps=recipe.steps, pct_start=0.05, cycle_momentum=False
    )
    curve, losses, began = [], [], time.monotonic()
    for step, batch in zip(range(1, stop_after + 1), batches(tokenizer, recipe), strict=False):
        optimiser.zero_grad()
        loss = completion_loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
        if step % REPORT_EVERY == 0:
            curve.append(round(sum(losses) / len(losses), 4))
            losses.clear()
            print(f"step {step}/{recipe.steps} loss {curve[-1]:.4f} {time.monotonic() - began:.0f} s", flush=True)
    return curve


def build(recipe: Recipe, out: Path, *, stop_after: int) -> None:
    torch.manual_seed(recipe.seed)
    lessons = judging_lessons(recipe.seed, 4000)
    tokenizer = build_tokenizer(lessons, recipe)
    model = build_model(tokenizer, recipe)
    size = sum(weight.numel() for weight in model.parameters())
    print(f"{size:,} parameters, {len(tokenizer)} tokens", flush=True)
    curve = train(model, tokenizer, recipe, stop_after=stop_after)
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    record = {"recipe": asdict(recipe), "loss_curve": curve, "frame": frame_lines(lessons)}
    (out / "base.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"wrote {out}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--lr", type=float, default=Recipe(seed=0).lr)
    parser.add_argument("--stop-after", type=int, default=Recipe(seed=0).steps, help="do only the first steps of the recipe")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    build(Recipe(seed=arguments.seed, lr=arguments.lr), arguments.out, stop_after=arguments.stop_after)


if __name__ == "__main__":
    main()
