"""What an evaluation says about its prompts before an engine starts."""

import pytest

from configs.load import ConfigError
from grm.preferences import Preference
from launch.judging.evaluation_checks import check_lengths, long_prompts
from launch.setup.model_files import TINY
from launch.setup.tokenizer import Tokenizer
from tests.launch.judging.fake_judge import preference, vote_plan_of


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(str(TINY))


PREFERENCES = [preference("short"), preference("long", query="why? " * 400), preference("also short", 3)]


def longest(preferences: list[Preference], tokenizer: Tokenizer) -> dict[str, int]:
    return long_prompts(vote_plan_of(), tokenizer, preferences, 0)


def test_prompts_over_the_limit_are_counted_with_their_tokens(tokenizer: Tokenizer) -> None:
    lengths = longest(PREFERENCES, tokenizer)
    limit = max(lengths["short"], lengths["also short"])
    assert long_prompts(vote_plan_of(), tokenizer, PREFERENCES, limit) == {"long": lengths["long"]}
    notes: list[str] = []
    check_lengths(vote_plan_of(), tokenizer, PREFERENCES, limit, notes.append)
    tokens = lengths["long"]
    assert notes == [
        f"note       1 of 3 prompts are over the limit of {limit} tokens (the first: long, {tokens}) and get no answer;"
        " raise model.context, or lower rollout.max_new_tokens"
    ]


def test_prompts_that_fit_need_no_word(tokenizer: Tokenizer) -> None:
    notes: list[str] = []
    check_lengths(vote_plan_of(), tokenizer, PREFERENCES, max(longest(PREFERENCES, tokenizer).values()), notes.append)
    assert notes == []


def test_no_prompt_that_fits_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match=r"3 of 3 prompts are over the limit of 5 tokens \(the first: short, \d+\): raise"):
        check_lengths(vote_plan_of(), tokenizer, PREFERENCES, 5, lambda note: None)
