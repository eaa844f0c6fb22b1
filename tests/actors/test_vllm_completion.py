"""From vLLM's output to a completion, by a hand-made one: with and without alternatives; and the text as vLLM would make it."""

import random
from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from actors.generator import CompletionWithChoices
from actors.vllm_completion import completion_of, completion_with_choices_of, text_of
from buffer.messages import Completion
from grm.expected_scores import TokenChoice


def output(*steps: dict[int, tuple[str, float]]) -> Any:
    """The first token of each step is the one that was sampled."""
    return SimpleNamespace(
        token_ids=[next(iter(step)) for step in steps],
        weight_versions=[SimpleNamespace(version="3", start=0, end=1), SimpleNamespace(version="4", start=1, end=len(steps))],
        logprobs=[
            {token: SimpleNamespace(decoded_token=text, logprob=logprob) for token, (text, logprob) in step.items()}
            for step in steps
        ],
        text="".join(next(iter(step.values()))[0] for step in steps),
        finish_reason="stop",
    )


def flat(*logprobs: float, finish: str) -> Any:
    """Tokens 7, 8, … with a log-prob each, without a text."""
    spans = [SimpleNamespace(version="3", start=0, end=1), SimpleNamespace(version="4", start=1, end=2)]
    return SimpleNamespace(
        token_ids=[7, 8], weight_versions=spans, logprobs=SimpleNamespace(logprobs=[*logprobs]), finish_reason=finish
    )


def letters(token_ids: Sequence[int]) -> str:
    return "".join(chr(ord("a") + each - 7) for each in token_ids)


@pytest.mark.parametrize(("finish", "text"), [("length", "ab"), ("stop", "a")])
def test_a_completion_without_alternatives(finish: Any, text: str) -> None:
    """The token that ends it is no text."""
    read = completion_of(flat(-0.5, -1.0, finish=finish), [9, 9], letters)
    assert read == Completion(token_ids=(7, 8), logprobs=(-0.5, -1.0), versions=(3, 4), text=text, finish=finish)
    assert type(read) is Completion, "what the streams carry"


def test_log_probs_that_do_not_belong_to_the_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="3 log-probs for 2 tokens"):
        completion_of(flat(-0.5, -1.0, -2.0, finish="stop"), [9], letters)


def test_a_first_word_keeps_the_blank_that_a_tokenizer_drops_at_the_begin_of_a_text() -> None:
    words = {1: "▁say", 2: ":", 3: "▁it", 4: "▁is", 5: "s"}

    def decode(token_ids: Sequence[int]) -> str:
        return "".join(words[each] for each in token_ids).replace("▁", " ").removeprefix(" ")

    assert decode([3, 4]) == "it is"
    assert text_of([3, 4], [1, 2], decode) == " it is"
    assert text_of([5, 4], [1, 2], decode) == "s is"
    assert text_of([], [1, 2], decode) == ""


def test_alternatives_come_where_a_score_may_stand() -> None:
    read = completion_with_choices_of(output({7: ("{", -0.5), 1: ("[", -2.0)}, {8: ("9", -1.5), 9: ("8", -0.25)}))
    assert isinstance(read, CompletionWithChoices)
    assert read.logprobs == (-0.5, -1.5), "of the tokens that were sampled, wherever they rank"
    assert read.choices == (TokenChoice(text="{", top=()), TokenChoice(text="9", top=(("9", -1.5), ("8", -0.25))))


@pytest.mark.slow  # imports vLLM
def test_the_text_is_the_one_that_vllm_would_stream() -> None:
    from transformers import AutoTokenizer
    from vllm import SamplingParams
    from vllm.v1.engine.detokenizer import FastIncrementalDetokenizer

    tokenizer = AutoTokenizer.from_pretrained("grm/tiny_base")
    decode = partial(tokenizer.decode, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    rng, said = random.Random(0), ["Scores: ", "\\boxed{9, 2}", "\n", "best 60%", "<|im_end|>", " süß 雪 ", "Analysis: "]
    prompt = tokenizer("<|im_start|>user\nWhich one?<|im_end|>\n<|im_start|>assistant\n")["input_ids"]
    for _ in range(20):
        ids = tokenizer("".join(rng.choices(said, k=12)))["input_ids"]
        asked: Any = SimpleNamespace(request_id="0", prompt_token_ids=prompt, sampling_params=SamplingParams())
        stream = FastIncrementalDetokenizer(tokenizer, asked)
        for each in ids:
            stream.update([each], False)
        assert text_of(ids, prompt, decode) == stream.output_text
