"""From vLLM's output to a completion, by a hand-made one: with and without alternatives."""

from types import SimpleNamespace
from typing import Any

from actors.generator import CompletionWithChoices
from actors.vllm_completion import completion_of
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


def test_a_completion_without_alternatives() -> None:
    read = completion_of(output({7: ("a", -0.5)}, {8: ("b", -1.0)}))
    assert read == Completion(token_ids=(7, 8), logprobs=(-0.5, -1.0), versions=(3, 4), text="ab", finish="stop")
    assert type(read) is Completion, "what the streams carry"


def test_alternatives_come_where_a_score_may_stand() -> None:
    read = completion_of(output({7: ("{", -0.5), 1: ("[", -2.0)}, {8: ("9", -1.5), 9: ("8", -0.25)}))
    assert isinstance(read, CompletionWithChoices)
    assert read.logprobs == (-0.5, -1.5), "of the tokens that were sampled, wherever they rank"
    assert read.choices == (TokenChoice(text="{", top=()), TokenChoice(text="9", top=(("9", -1.5), ("8", -0.25))))
