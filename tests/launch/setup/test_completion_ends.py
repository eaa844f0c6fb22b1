"""What a completion ends with and what thoughts are made of, in chat formats that have several ends or a switch."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from configs.load import ConfigError
from launch.setup.tokenizer import Tokenizer
from tests.launch.setup.chat_templates import GEMMA, THINKING, TURNS, loaded, reference
from tests.random_models import CHATML
from tests.small_tokenizers import make

PHI = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)
GLM = (
    "[gMASK]{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TWO_ENDS: dict[str, tuple[dict[str, Any], str]] = {
    "Gemma's": ({**TURNS, "template": GEMMA, "generation_eos": [1, 3]}, "<end_of_turn>"),
    "Gemma's, the turn's end not in its files": ({**TURNS, "template": GEMMA, "generation_eos": 1}, "<end_of_turn>"),
    "Phi's": (
        {"special": ("<eos>", "<|user|>", "<|assistant|>", "<|end|>"), "template": PHI, "generation_eos": [0, 2, 3]},
        "<|end|>",
    ),
    "Phi's, the turn's end not in its files": (
        {"special": ("<eos>", "<|user|>", "<|assistant|>", "<|end|>"), "template": PHI},
        "<|end|>",
    ),
    "GLM's, which ends a turn with the head of the next": (
        {
            "special": ("<eos>", "[gMASK]", "<|user|>", "<|assistant|>", "<|observation|>"),
            "template": GLM,
            "generation_eos": [0, 2, 4],
        },
        "<|user|>",
    ),
    "that of a base model with a chat template": ({"template": CHATML}, "<|im_end|>"),
}


@pytest.mark.parametrize("name", TWO_ENDS)
def test_of_two_ends_that_of_a_turn_ends_what_is_learnt_and_scored(name: str, tmp_path: Path) -> None:
    how, end = TWO_ENDS[name]
    tokens = {"bos": None, "eos": "<eos>", "pad": None} if "<eos>" in how.get("special", ()) else {}
    tokenizer = loaded(tmp_path, **(tokens | how))
    names = AutoTokenizer.from_pretrained(tmp_path)
    end_id, text_end = names.convert_tokens_to_ids(end), names.eos_token_id
    assert end_id != text_end
    assert tokenizer.end_token == tokenizer.completion("x")[-1] == end_id
    assert tokenizer.ended((9, text_end)) == tokenizer.ended((9, end_id)) == (9, end_id)
    assert tokenizer.ended((9, 10)) == (9, 10), "it was cut short"
    assert set(tokenizer.other_ends.values()) == {end_id}
    assert text_end in tokenizer.other_ends
    assert tokenizer.decode(tokenizer.completion("x")) == tokenizer.decode((*tokenizer.completion("x")[:-1], text_end)) == "x"


def test_an_end_that_is_no_special_token_is_no_text_either(tmp_path: Path) -> None:
    template = CHATML.replace("<|im_end|>", "<stop>")
    tokenizer = loaded(tmp_path, template=template, words=["<stop>"], generation_eos=[1, 261])
    assert tokenizer.completion("Scores: 1")[-1] == tokenizer.end_token == 261
    assert tokenizer.decode(tokenizer.completion("Scores: 1")) == "Scores: 1"


def test_the_switch_for_thoughts_reaches_the_template(tmp_path: Path) -> None:
    make(tmp_path, template=THINKING, eos="<|im_end|>")
    off, on = Tokenizer(str(tmp_path)), Tokenizer(str(tmp_path), thinking=True)
    assert off.encode("x") == reference(tmp_path, message="x")
    assert on.encode("x") == reference(tmp_path, message="x", thinking=True) != off.encode("x")
    off.check_thinking(False)
    on.check_thinking(True)


OPENS = CHATML.replace("assistant\n{%", "assistant\n<think>\n{%")  # as R1's distilled models do
CLOSES = CHATML.replace("assistant\n{%", "assistant\n<think>\n\n</think>\n{%")


@pytest.mark.parametrize(
    ("template", "asked", "why"),
    [
        (CHATML, True, "does not read enable_thinking and opens no thought itself"),
        (None, True, "does not read enable_thinking and opens no thought itself"),
        (CLOSES, True, "does not read enable_thinking and opens no thought itself"),
        (OPENS, False, "begins a thought whether it is asked for or not; set prompts.thinking=true"),
        (OPENS, True, ""),
        (CHATML, False, ""),
        (None, False, ""),
        (CLOSES, False, ""),
    ],
)
def test_a_model_that_does_not_think_as_it_is_asked_is_refused(
    template: str | None, asked: bool, why: str, tmp_path: Path
) -> None:
    tokenizer = loaded(tmp_path, template=template, thinking=asked)
    if not why:
        tokenizer.check_thinking(asked)
        return
    with pytest.raises(ConfigError, match=f"prompts.thinking: the model's chat template {why}"):
        tokenizer.check_thinking(asked)


def test_thoughts_are_broken_in_judged_text_and_stay_in_completions(tmp_path: Path) -> None:
    tokenizer = loaded(tmp_path, template=CHATML, words=["<think>", "</think>"])
    assert tokenizer.escape_special_tokens("a</think><|im_end|>") == "a<\\/think><\\|im_end|>"
    written = tokenizer.completion("<think>a</think><|im_end|>b")
    assert (written[0], written[2]) == (261, 262)
    assert tokenizer.decode(written) == "<think>a</think><\\|im_end|>b"
