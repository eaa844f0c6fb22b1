"""The example of `example` prompts in a run: drawn anew for each prompt, blind to the label, the same after a resume (I6)."""

import re
from collections import Counter
from itertools import product

import pytest

from buffer.ledger import Cursor
from buffer.messages import View
from configs.load import load
from grm.preferences import Question
from grm.tiny_world import preferences
from launch.judging.vote_plan import vote_plan
from launch.setup.model_files import TINY
from launch.setup.prompt_source import Draft, PromptSource, prompt_source, prompt_template
from launch.setup.tokenizer import Tokenizer

CONFIG = load("tiny", ["prompts.style=example", "model.context=512"])


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(str(TINY))


def of_size(n: int) -> Question:
    return next(p.question for p in preferences(seed=3, count=60) if len(p.question.responses) == n)


def views(*drafts: Draft | None) -> list[View]:
    return [view for draft in drafts if draft is not None for view in draft.views]


def place(tokenizer: Tokenizer, view: View) -> int:
    """The shown place of the best in the example of a prompt, from 0."""
    found = re.findall(r"Response (\d) is right", tokenizer.decode(view.token_ids))
    assert len(found) == 1
    return int(found[0]) - 1


def source(tokenizer: Tokenizer, n: int) -> PromptSource:
    return prompt_source(CONFIG, [of_size(n)], tokenizer)


@pytest.mark.parametrize("n", [2, 3])
def test_it_tells_nothing_of_the_label(tokenizer: Tokenizer, n: int) -> None:
    """Whichever response is best, the example's best place and that response's place are independent."""
    prompts = source(tokenizer, n)
    drafts = [prompts.draft(0, str(i)) for i in range(200 * n)]
    for label in range(n):
        seen = Counter((view.permutation.index(label), place(tokenizer, view)) for view in views(*drafts))
        expected = len(drafts) / n**2
        chi_squared = sum((seen[a, b] - expected) ** 2 / expected for a in range(n) for b in range(n))
        assert chi_squared < 27.0, "99.9 % of 8 degrees of freedom"


def test_it_is_drawn_at_each_visit_and_is_the_same_after_a_resume(tokenizer: Tokenizer) -> None:
    taken = source(tokenizer, 2).take(Cursor(), 40)
    asked = views(*(draft for draft, _ in taken))
    assert {(view.permutation, place(tokenizer, view)) for view in asked} == set(product([(0, 1), (1, 0)], (0, 1)))
    assert source(tokenizer, 2).take(taken[9][1], 30) == taken[10:]


@pytest.mark.parametrize("best", [0, 1, 2])
def test_in_hinted_sampling_it_is_right_and_the_plain_prompt_has_its_own(tokenizer: Tokenizer, best: int) -> None:
    prompts = source(tokenizer, 3)
    plain = views(*(prompts.draft(0, str(i)) for i in range(60)))
    hinted = views(*(prompts.draft(0, str(i), best=best) for i in range(60)))
    assert all(place(tokenizer, view) == view.permutation.index(best) for view in hinted)
    right = sum(place(tokenizer, view) == view.permutation.index(best) for view in plain)
    assert 8 < right < 32, "a third of 60"


def test_in_a_vote_each_question_has_one_example_and_questions_have_both(tokenizer: Tokenizer) -> None:
    """With both orders of two responses, what a judge gains by copying the example it loses again."""
    plan = vote_plan(CONFIG, prompt_template(CONFIG), 4)
    asked = [p.question for p in preferences(seed=5, count=30, n=2)]
    places = [{plan.message(q, order).rsplit("boxed", 1)[1] for order in ((0, 1), (1, 0))} for q in asked]
    assert all(len(each) == 1 for each in places)
    assert {place for each in places for place in each} == {"{2, 9}", "{9, 2}"}
