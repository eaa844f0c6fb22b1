"""In how many orders a training prompt asks its preference, and with how many completions each."""

import pytest

from buffer.ledger import Cursor
from configs.load import load
from grm.preferences import Question
from grm.prompts import template
from grm.tiny_world import preferences
from launch.setup.model_files import TINY
from launch.setup.prompt_source import PromptSource, prompt_source
from launch.setup.tokenizer import Tokenizer

CONFIG = load("tiny")
QUESTIONS = [p.question for p in preferences(seed=3, count=40)]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(str(TINY))


def of_size(n: int) -> Question:
    return next(q for q in QUESTIONS if len(q.responses) == n)


@pytest.mark.parametrize(
    ("n", "overrides", "spread"),
    [
        (2, [], [4, 4]),
        (2, ["rollout.orders=4"], [4, 4]),  # of two responses there are two orders
        (2, ["rollout.orders=1"], [8]),
        (3, ["rollout.orders=4"], [2, 2, 2, 2]),
        (3, ["rollout.samples=6", "rollout.orders=6", "meta_rm.batch=60"], [1, 1, 1, 1, 1, 1]),
        (2, ["rollout.samples=6", "rollout.orders=6", "meta_rm.batch=60"], [3, 3]),
        (1, [], [8]),
    ],
)
def test_a_group_spreads_its_samples_evenly_over_different_orders(
    tokenizer: Tokenizer, n: int, overrides: list[str], spread: list[int]
) -> None:
    ((draft, _),) = prompt_source(load("tiny", overrides), [of_size(n)], tokenizer).take(Cursor(), 1)
    assert [view.samples for view in draft.views] == spread
    assert len({view.permutation for view in draft.views}) == len(spread)
    assert len({view.token_ids for view in draft.views}) == len(spread)


def test_one_order_is_the_first_of_several(tokenizer: Tokenizer) -> None:
    """So a run with rollout.orders=1 draws what it always drew."""
    one, two = (
        prompt_source(load("tiny", [f"rollout.orders={orders}"]), QUESTIONS[:12], tokenizer).take(Cursor(), 12)
        for orders in (1, 2)
    )
    for (alone, _), (both, _) in zip(one, two, strict=True):
        assert (alone.views[0].permutation, alone.views[0].token_ids) == (both.views[0].permutation, both.views[0].token_ids)


def test_a_preference_of_which_one_order_is_too_long_is_passed_over_whole(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = of_size(2)
    whole = prompt_source(CONFIG, [question], tokenizer)
    odd = PromptSource(
        [question], tokenizer=tokenizer, template=template("compact"), seed=0, max_tokens=10**6, orders=2, samples=4
    )
    assert whole.at(0, 0) is not None
    lengths = iter([10, 10**6 + 1])
    monkeypatch.setattr(tokenizer, "encode", lambda message: (1,) * next(lengths))
    assert odd.at(0, 0) is None
