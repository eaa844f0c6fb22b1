"""Build the tiny world's base policy: `python launch/dev/tiny_base.py --out DIR --seed S`.

    vocabulary    byte-level BPE on the world's text; every line of the prompt's frame is one token
    reading       at first most lessons name all four levels, of one response, then of two, then of up to four
    judging       more and more, and in the end all, imitate `grm.tiny_world.loose_judge`, hints included; a tenth of
                  them are asked for no principles and imitate `unprincipled_judge`
    hearsay       behind the end of a judgement stands what people said of it: + right, - wrong

Plain supervised fine-tuning on the completion, on exactly the prompts that the system renders. The base ends up
knowing the format and seeing the attributes, while it chooses its principles by habit. Like a language model
that has read more judgements than it could write, it can also tell a good one once it stands there: a meta-RM starts from
that. The policy, which stops at the end token, never says it. The folder loads in
transformers and vLLM; `base.json` in it records the recipe, the loss curve and the frame.
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
from grm.judgement import Judgement, ScoreRange, parse, training_scale, unshuffle
from grm.preferences import Preference, Question
from grm.rewards import rule_reward

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PARTS = ("Specific Criteria:", "\nAnalysis:", "Analysis:", "\nScores: \\boxed{")  # what completions hold
HINTED = 0.08  # share of lessons whose prompt holds the hint, so that a cold start can sample hinted
HEARSAY_WEIGHT = 8.0  # of that one token among the two dozen of a completion
UNPRINCIPLED = 0.10  # share of judging lessons that ask for no principles, so that the ablation can start from this base
CURRICULUM = (  # until this share of the steps: the shares of lessons with n responses; after that the world's
    (0.06, {1: 1.0}),
    (0.20, {1: 0.3, 2: 0.7}),
    (0.75, {1: 0.1, 2: 0.3, 3: 0.3, 4: 0.3}),
)
JUDGING_FROM = 0.75  # until here the share of judging lessons rises from 0.2 to 1
REPORT = 100  # steps between two points of the recorded loss curve


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Sizes and optimisation."""

    seed: int
    steps: int = 3600
    rows: int = 16  # sequences per step
    lr: float = 1.5e-3  # peak of a warm-up and cosine
    init: float = 0.15  # standard deviation; at the usual 0.02 attention stays flat and nothing is read for long
    hidden: int = 128
    layers: int = 3
    vocabulary: int = 1024  # at most
    context: int = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """One prompt (the user's message), the completion to be learnt, and what was said of it: "+", "-" or nothing."""

    question: Question
    prompt: str
    completion: str
    hearsay: str = ""


def reading_lesson(preference: Preference, rng: random.Random) -> Lesson:
    """Name every level of every response."""
    question = preference.question
    order = prompts.shuffled(len(question.responses), rng)
    return Lesson(
        question=question,
        prompt=prompts.render(question, order, prompts.template("compact"), score_range=ScoreRange.GRADED),
        completion=tiny_world.reading_drill(question, order, rng, score_range=ScoreRange.GRADED),
    )


def judging_lesson(preference: Preference, rng: random.Random) -> Lesson:
    """A judgement by the loose judge, with or without its principles; single responses on either scale."""
    question, n = preference.question, len(preference.question.responses)
    order = prompts.shuffled(n, rng)
    scale = rng.choice((ScoreRange.VERDICT, ScoreRange.GRADED)) if n == 1 else ScoreRange.GRADED
    best = preference.label if n == 1 else order.index(preference.label)
    hint = best if rng.random() < HINTED else None
    principles = rng.random() >= UNPRINCIPLED
    judge = tiny_world.loose_judge if principles else tiny_world.unprincipled_judge
    template = prompts.template("compact", principles=principles)
    completion = judge(question, order, rng, score_range=scale, hint=hint)
    return Lesson(
        question=question,
        prompt=prompts.render(question, order, template, hint=hint, score_range=scale),
        completion=completion,
        hearsay=_hearsay(completion, order, preference.label, scale),
    )


def _hearsay(completion: str, order: tuple[int, ...], label: int, scale: ScoreRange) -> str:
    """By the rule; nothing of a single response on the graded scale, for which there is no rule."""
    n = len(order)
    if scale is not training_scale(n):
        return ""
    read = parse(completion, n, low=scale.low, high=scale.high)
    assert isinstance(read, Judgement)  # the teacher keeps the format
    return "+" if rule_reward(unshuffle(read.scores, order), label, n) > 0 else "-"


def judging_lessons(seed: int, count: int, *, held_out: bool = False) -> list[Lesson]:
    rng = random.Random(f"lessons/{seed}")
    return [judging_lesson(each, rng) for each in tiny_world.preferences(seed, count, held_out=held_out)]


def lessons_at(step: int, count: int, recipe: Recipe) -> list[Lesson]:
    """`count` fresh lessons for `step`: from single responses to the world's mix, from reading to judging."""
    rng = random.Random(f"lessons/{recipe.seed}/{step}")
    sizes = next((sizes for until, sizes in CURRICULUM if step < until * recipe.steps), tiny_world.SIZES)
    judging = min(1.0, 0.2 + 0.8 * step / (JUDGING_FROM * recipe.steps))
    shares = Counter(rng.choices(tuple(sizes), weights=tuple(sizes.values()), k=count))
    seed = recipe.seed * 1_000_003 + step + 1
    return [
        (judging_lesson if rng.random() < judging else reading_lesson)(each, rng)
        for n, share in sorted(shares.items())
        for each in tiny_world.preferences(seed, share, n)
    ]


def frame_lines(lessons: list[Lesson]) -> list[str]:
    """The lines, with their line ends, that prompts share whatever the question: each becomes one token."""
    seen: Counter[str] = Counter()
    for lesson in lessons:
        content = "\n".join((lesson.question.query, *lesson.question.responses)).split("\n")
        lines = set(re.findall(r"[^\n]+\n*", lesson.prompt))
        seen.update(line for line in lines if line.strip("\n") not in content)
    return sorted(line for line, times in seen.items() if times >= 3)


def build_tokenizer(lessons: list[Lesson], recipe: Recipe) -> PreTrainedTokenizerFast:
    """Any text encodes and decodes unchanged: the alphabet is all 256 bytes."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    added = [*frame_lines(lessons), *PARTS, "user\n", "assistant\n"]
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
    """Right-padded token ids [rows, length], and how much each prediction counts [rows, length - 1]."""

    ids: torch.Tensor
    weights: torch.Tensor


def collate(rows: list[tuple[list[int], list[int]]], pad: int, end: int) -> Batch:
    """`rows` are (prompt ids, completion ids up to the end token, and maybe the hearsay behind it)."""
    length = max(len(prompt) + len(completion) for prompt, completion in rows)
    ids = torch.full((len(rows), length), pad)
    weights = torch.zeros((len(rows), length - 1))
    for row, (prompt, completion) in enumerate(rows):
        ids[row, : len(prompt) + len(completion)] = torch.tensor(prompt + completion)
        weights[row, len(prompt) - 1 : len(prompt) + len(completion) - 1] = 1.0
        if completion[-1] != end:
            weights[row, len(prompt) + len(completion) - 2] = HEARSAY_WEIGHT
    return Batch(ids=ids, weights=weights)


def encode(tokenizer: PreTrainedTokenizerFast, lessons: list[Lesson]) -> list[tuple[list[int], list[int]]]:
    """(prompt ids as a chat, completion ids with the end token and what stands behind it) of each lesson."""
    chats = [
        tokenizer.apply_chat_template([{"role": "user", "content": lesson.prompt}], tokenize=False, add_generation_prompt=True)
        for lesson in lessons
    ]
    asked = tokenizer(chats, add_special_tokens=False)["input_ids"]
    answers = [lesson.completion + tokenizer.eos_token + lesson.hearsay for lesson in lessons]
    return list(zip(asked, tokenizer(answers, add_special_tokens=False)["input_ids"], strict=True))


def batches(tokenizer: PreTrainedTokenizerFast, recipe: Recipe, *, pool: int = 10) -> Iterator[Batch]:
    """`recipe.steps` batches of fresh lessons; the rows of a pool are sorted by length, so little is padding."""
    rng = random.Random(f"batches/{recipe.seed}")
    for start in range(0, recipe.steps, pool):
        rows = encode(tokenizer, lessons_at(start, pool * recipe.rows, recipe))
        rows.sort(key=lambda row: len(row[0]) + len(row[1]))
        cuts = list(range(0, len(rows), recipe.rows))
        rng.shuffle(cuts)
        for cut in cuts[: recipe.steps - start]:
            yield collate(rows[cut : cut + recipe.rows], tokenizer.pad_token_id, tokenizer.eos_token_id)


def completion_loss(model: LlamaForCausalLM, batch: Batch) -> torch.Tensor:
    """Weighted mean cross-entropy in nats. Attention is causal, so padding on the right needs no mask."""
    counts = batch.weights > 0
    states = model.model(batch.ids).last_hidden_state[:, :-1][counts]
    losses = F.cross_entropy(model.lm_head(states), batch.ids[:, 1:][counts], reduction="none")
    weights = batch.weights[counts]
    return (weights * losses).sum() / weights.sum()


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, *, stop_after: int) -> list[float]:
    """Fine-tune in place for the first `stop_after` steps of the recipe.

    Returns the loss curve: the mean loss (nats per token) of each REPORT steps.
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
        if step % REPORT == 0:
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
    parser.add_argument("--stop-after", type=int, default=Recipe(seed=0).steps, help="steps to do, of the recipe's")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    build(Recipe(seed=arguments.seed, lr=arguments.lr), arguments.out, stop_after=arguments.stop_after)


if __name__ == "__main__":
    main()
