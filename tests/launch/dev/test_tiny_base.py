"""The shipped base has the properties that training relies on, and the command still makes one as good."""

import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from grm import judgement, preferences, prompts, rewards, tiny_world
from grm.orders import shuffled
from launch.dev import tiny_base, tiny_lessons

ROOT = Path(tiny_base.__file__).parents[2]
SHIPPED = ROOT / "grm" / "tiny_base"
HELD_OUT = 256


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(SHIPPED)


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(SHIPPED).eval()


@pytest.fixture(scope="module")
def shown() -> list[tuple[preferences.Preference, tuple[int, ...], str]]:
    """Held-out pairs, their shuffled order and the prompt."""
    return rendered(prompts.template("compact"))


@pytest.fixture(scope="module")
def unprincipled() -> list[tuple[preferences.Preference, tuple[int, ...], str]]:
    """The same pairs in the same order, with a prompt that requests no principles."""
    return rendered(prompts.template("compact", principles=False))


def rendered(template: prompts.Template) -> list[tuple[preferences.Preference, tuple[int, ...], str]]:
    rng = random.Random(4)
    pairs = tiny_world.preferences(41, HELD_OUT, 2, held_out=True)
    orders = [(pair, shuffled(2, rng)) for pair in pairs]
    return [(pair, order, prompts.render(pair.question, order, template)) for pair, order in orders]


def chat(tokenizer: PreTrainedTokenizerFast, prompt: str) -> str:
    return tokenizer.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True)


@torch.no_grad()
def completions(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, texts: list[str], *, sampled: bool) -> list[str]:
    torch.manual_seed(0)
    batch = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
    choice = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0} if sampled else {"do_sample": False}
    ids = model.generate(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=48, **choice)
    new = ids[:, batch["input_ids"].shape[1] :].tolist()
    return [tokenizer.decode(row).split("<|im_end|>")[0] for row in new]


def correct(preference: preferences.Preference, order: tuple[int, ...], completion: str) -> bool | None:
    """Whether the first maximum is the label, as evaluation counts; None when unparsable."""
    parsed = judgement.parse(completion, len(order))
    if isinstance(parsed, judgement.ParseFailure):
        return None
    return order[parsed.scores.index(max(parsed.scores))] == preference.label


# --- the tokenizer


@pytest.mark.parametrize("text", ["héllo \U0001f600 \x00\x1f", "日本語 العربية", "\\boxed{8, 2}\r\n\t[The End of Response 1]"])
def test_any_text_survives_the_tokenizer(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_the_frame_of_every_prompt_is_the_one_that_the_base_was_taught(tokenizer: PreTrainedTokenizerFast) -> None:
    lines = tiny_base.frame_lines(tiny_lessons.judging_lessons(0, 4000))
    assert json.loads((SHIPPED / "base.json").read_text())["frame"] == lines, (
        "the compact prompts changed: rebuild with python launch/dev/tiny_base.py --out grm/tiny_base"
    )
    assert all(len(tokenizer(line, add_special_tokens=False)["input_ids"]) == 1 for line in lines)


def test_every_fixed_text_of_a_completion_is_one_token(tokenizer: PreTrainedTokenizerFast) -> None:
    for fixed in tiny_base.FIXED_TEXTS:
        without, with_it = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("ok.", f"ok.{fixed}"))
        assert len(with_it) == len(without) + 1, fixed


@pytest.mark.parametrize(("n", "longest_prompt", "longest_completion"), [(1, 75, 25), (2, 110, 36), (3, 140, 48), (4, 170, 60)])
def test_prompts_and_completions_are_short(
    tokenizer: PreTrainedTokenizerFast, n: int, longest_prompt: int, longest_completion: int
) -> None:
    lessons = [lesson for lesson in tiny_lessons.judging_lessons(1, 2000) if len(lesson.question.responses) == n]
    lengths = [(len(prompt), len(completion)) for prompt, completion in tiny_base.encode(tokenizer, lessons)]
    assert max(prompt for prompt, _ in lengths) <= longest_prompt
    assert max(completion for _, completion in lengths) <= longest_completion


def test_the_base_has_the_size_and_shape_that_the_engines_take(model: PreTrainedModel) -> None:
    assert 500_000 < model.num_parameters() < 1_500_000
    assert model.config.head_dim == 32
    assert model.dtype == torch.float32


# --- what the base knows, on held-out pairs


def test_the_base_keeps_the_format_and_judges_a_little_above_chance(model, tokenizer, shown) -> None:  # type: ignore[no-untyped-def]
    texts = completions(model, tokenizer, [chat(tokenizer, prompt) for _, _, prompt in shown], sampled=False)
    verdicts = [correct(pair, order, text) for (pair, order, _), text in zip(shown, texts, strict=True)]
    assert sum(verdict is not None for verdict in verdicts) >= 0.97 * HELD_OUT
    assert 0.52 < sum(verdict is True for verdict in verdicts) / HELD_OUT < 0.70


def test_without_principles_requested_the_base_names_none_and_judges_about_as_well(  # type: ignore[no-untyped-def]
    model, tokenizer, unprincipled
) -> None:
    starts = [chat(tokenizer, prompt) for _, _, prompt in unprincipled]
    texts = completions(model, tokenizer, starts, sampled=False)
    verdicts = [correct(pair, order, text) for (pair, order, _), text in zip(unprincipled, texts, strict=True)]
    assert sum(verdict is not None for verdict in verdicts) >= 0.97 * HELD_OUT
    assert 0.52 < sum(verdict is True for verdict in verdicts) / HELD_OUT < 0.70
    assert all(re.fullmatch(r"Analysis:( Response [12]: \w+\.){2}\nScores: .*", text) for text in texts)


def test_samples_parse_and_their_critiques_read_the_levels(model, tokenizer, shown) -> None:  # type: ignore[no-untyped-def]
    texts = completions(model, tokenizer, [chat(tokenizer, prompt) for _, _, prompt in shown], sampled=True)
    named, right, firsts = 0, 0, Counter[str]()
    parsed = [judgement.parse(text, 2) for text in texts]
    judgements = [result for result in parsed if isinstance(result, judgement.Judgement)]
    assert len(judgements) >= 0.96 * HELD_OUT
    for (preference, order, _), result in zip(shown, parsed, strict=True):
        if isinstance(result, judgement.ParseFailure):
            continue
        firsts[result.principles.split()[0]] += 1
        for place, name, level in readings(result.critique):
            levels = tiny_world.levels_of(preference.question.query, preference.question.responses[order[place]])
            # a name that is no principle counts as a wrong reading: a sample may err in its words too
            named, right = named + 1, right + (name in levels and tiny_world.LEVELS[levels[name]] == level)
    assert right >= 0.95 * named
    assert all(firsts[name] >= 0.06 * HELD_OUT for name in tiny_world.PRINCIPLES)  # RL can find each of them


def readings(critique: str) -> list[tuple[int, str, str]]:
    """Returns (shown place from 0, principle, level) of every reading in a critique."""
    return [
        (int(place) - 1, *pair)  # type: ignore[misc]
        for place, body in re.findall(r"Response ([12]): ([^.]*)\.", critique)
        for pair in re.findall(r"(\w+) (\w+)", body)
    ]


def test_with_the_right_principle_given_the_base_judges_right(model, tokenizer, shown) -> None:  # type: ignore[no-untyped-def]
    """This is what reinforcement learning can reach by learning to choose."""
    heads = [f"Specific Criteria: {preference.subset}" for preference, _, _ in shown]
    starts = [chat(tokenizer, prompt) + head for (_, _, prompt), head in zip(shown, heads, strict=True)]
    texts = completions(model, tokenizer, starts, sampled=False)
    verdicts = [correct(pair, order, head + text) for (pair, order, _), head, text in zip(shown, heads, texts, strict=True)]
    assert sum(verdict is True for verdict in verdicts) >= 0.93 * HELD_OUT


def test_most_groups_have_both_rewards(model, tokenizer, shown) -> None:  # type: ignore[no-untyped-def]
    informative = 0
    for preference, order, prompt in shown[:16]:
        group = []
        for text in completions(model, tokenizer, [chat(tokenizer, prompt)] * 8, sampled=True):
            parsed = judgement.parse(text, 2)
            scores = judgement.unshuffle(parsed.scores, order) if isinstance(parsed, judgement.Judgement) else None
            group.append(rewards.rule_reward(scores, preference.label, 2))
        informative += len(set(group)) == 2
    assert informative >= 8


# --- the command


@pytest.mark.full
def test_the_command_still_follows_the_recorded_loss_curve(tmp_path: Path) -> None:
    """The whole build takes minutes, so only its first steps are run: same recipe, same curve within 3 %."""
    record = json.loads((SHIPPED / "base.json").read_text())
    points = 3
    command = [sys.executable, "launch/dev/tiny_base.py", "--out", str(tmp_path), "--threads", "1"]
    command += ["--seed", str(record["recipe"]["seed"]), "--stop-after", str(points * tiny_base.REPORT_EVERY)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=600, env={**os.environ, "PYTHONPATH": str(ROOT)})
    curve = json.loads((tmp_path / "base.json").read_text())["loss_curve"]
    assert curve == pytest.approx(record["loss_curve"][:points], rel=0.03)
    assert AutoModelForCausalLM.from_pretrained(tmp_path).num_parameters() > 0
