"""Build the tiny world's base policy: `python launch/tiny_base.py --out DIR --seed S`.

The base is a Llama of about a million parameters with a tokenizer of its own, taught by plain supervised
fine-tuning on the judgements of `grm.tiny_world.loose_judge`, on freshly made questions of the training side and on
exactly the prompts that the system renders. It ends up knowing the format and seeing the attributes, while it
chooses principles by habit. The folder loads in transformers and vLLM.
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

from grm import prompts, tiny_world
from grm.judgement import Scale
from grm.preferences import Question

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PARTS = ("Specific Criteria:", "\nAnalysis:", "\nScores: \\boxed{")  # what every completion holds
HINTED = 0.08  # share of prompts that name the best response, so that a cold start can sample with hints


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Sizes and optimisation; `rows` are sequences per step, `lr` the peak of a warm-up and cosine."""

    seed: int
    steps: int = 1500
    rows: int = 48
    lr: float = 3e-3
    hidden: int = 128
    layers: int = 4
    vocabulary: int = 1024
    context: int = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """One prompt (the user's message) and the completion that the loose judge wrote for it."""

    question: Question
    permutation: tuple[int, ...]
    prompt: str
    completion: str


def lessons(seed: int, count: int, *, held_out: bool = False, hinted: float = HINTED) -> list[Lesson]:
    """`count` lessons on fresh questions, responses shuffled, a share `hinted` of them with the hint."""
    rng = random.Random(f"lessons/{seed}/{held_out}")
    template = prompts.template("compact")
    made = []
    for preference in tiny_world.preferences(seed, count, held_out=held_out):
        question, n = preference.question, len(preference.question.responses)
        permutation = prompts.shuffled(n, rng)
        scale = rng.choice((Scale.VERDICT, Scale.GRADED)) if n == 1 else Scale.GRADED
        best = preference.label if n == 1 else permutation.index(preference.label)
        hint = best if rng.random() < hinted else None
        made.append(
            Lesson(
                question=question,
                permutation=permutation,
                prompt=prompts.render(question, permutation, template, hint=hint, scale=scale),
                completion=tiny_world.loose_judge(question, permutation, rng, scale=scale, hint=hint),
            )
        )
    return made


def frame_lines(examples: list[Lesson]) -> list[str]:
    """The lines, with their line ends, that prompts share whatever the question: each becomes one token."""
    seen: Counter[str] = Counter()
    for lesson in examples:
        content = "\n".join((lesson.question.query, *lesson.question.responses)).split("\n")
        lines = set(re.findall(r"[^\n]+\n*", lesson.prompt))
        seen.update(line for line in lines if line.strip("\n") not in content)
    return sorted(line for line, times in seen.items() if times >= 3)


def build_tokenizer(examples: list[Lesson], recipe: Recipe) -> PreTrainedTokenizerFast:
    """Byte-level BPE (any text encodes) in which every line of the frame is one token."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    texts = [text for lesson in examples for text in (lesson.question.query, *lesson.question.responses)]
    texts += [lesson.completion for lesson in examples]
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
    lines = frame_lines(examples)
    added = [*lines, *PARTS, "user\n", "assistant\n"]
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary - len(added),
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
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
        num_attention_heads=recipe.hidden // 32,  # head size 32: the smallest that vLLM's CPU kernels take
        num_key_value_heads=recipe.hidden // 32,
        head_dim=32,
        intermediate_size=recipe.hidden * 5 // 2,
        vocab_size=-(-len(tokenizer) // 64) * 64,
        max_position_embeddings=recipe.context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    return LlamaForCausalLM(config)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet:
    """A right-padded batch: token ids [rows, length] and a mask [rows, length - 1] of the predicted completion."""

    ids: torch.Tensor
    asked: torch.Tensor


def sheet(batch: list[tuple[list[int], list[int]]], pad: int) -> Sheet:
    length = max(len(prompt) + len(completion) for prompt, completion in batch)
    ids = torch.full((len(batch), length), pad)
    asked = torch.zeros((len(batch), length - 1), dtype=torch.bool)
    for row, (prompt, completion) in enumerate(batch):
        ids[row, : len(prompt) + len(completion)] = torch.tensor(prompt + completion)
        asked[row, len(prompt) - 1 : len(prompt) + len(completion) - 1] = True
    return Sheet(ids=ids, asked=asked)


def encoded(tokenizer: PreTrainedTokenizerFast, batch: list[Lesson]) -> list[tuple[list[int], list[int]]]:
    """Token ids of each lesson's chat prompt and of its completion with the end token."""
    chats = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": lesson.prompt}], tokenize=False, add_generation_prompt=True
        )
        for lesson in batch
    ]
    asked = tokenizer(chats, add_special_tokens=False)["input_ids"]
    answers = tokenizer([lesson.completion + tokenizer.eos_token for lesson in batch], add_special_tokens=False)
    return list(zip(asked, answers["input_ids"], strict=True))


def sheets(tokenizer: PreTrainedTokenizerFast, recipe: Recipe, *, pool: int = 20) -> Iterator[Sheet]:
    """Endless batches of fresh lessons; sequences of a pool are sorted by length so that little is padding."""
    rng = random.Random(f"sheets/{recipe.seed}")
    for draw in range(10**9):
        rows = encoded(tokenizer, lessons(recipe.seed * 100_003 + draw, pool * recipe.rows))
        rows.sort(key=lambda row: len(row[0]) + len(row[1]))
        cuts = list(range(0, len(rows), recipe.rows))
        rng.shuffle(cuts)
        for cut in cuts:
            yield sheet(rows[cut : cut + recipe.rows], tokenizer.pad_token_id)


def completion_loss(model: LlamaForCausalLM, batch: Sheet) -> torch.Tensor:
    """Mean cross-entropy, in nats per completion token (end token included). Right padding needs no mask."""
    states = model.model(batch.ids).last_hidden_state[:, :-1][batch.asked]
    return F.cross_entropy(model.lm_head(states), batch.ids[:, 1:][batch.asked])


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, recipe: Recipe) -> list[float]:
    """Fine-tune in place; returns the loss of each step."""
    decay = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": decay, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=recipe.lr, total_steps=recipe.steps, pct_start=0.05, cycle_momentum=False
    )
    losses, began = [], time.monotonic()
    for step, batch in zip(range(recipe.steps), sheets(tokenizer, recipe), strict=False):
        loss = completion_loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        losses.append(loss.item())
        if step % 50 == 49:
            print(f"step {step + 1} loss {sum(losses[-50:]) / 50:.4f} {time.monotonic() - began:.0f} s", flush=True)
    return losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=Recipe(seed=0).steps)
    parser.add_argument("--rows", type=int, default=Recipe(seed=0).rows)
    parser.add_argument("--lr", type=float, default=Recipe(seed=0).lr)
    parser.add_argument("--layers", type=int, default=Recipe(seed=0).layers)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    recipe = Recipe(seed=arguments.seed, steps=arguments.steps, rows=arguments.rows, lr=arguments.lr, layers=arguments.layers)
    torch.manual_seed(recipe.seed)
    tokenizer = build_tokenizer(lessons(recipe.seed, 4000), recipe)
    model = build_model(tokenizer, recipe)
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {len(tokenizer)} tokens", flush=True)
    train(model, tokenizer, recipe)
    arguments.out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)
    (arguments.out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=2))


if __name__ == "__main__":
    main()
