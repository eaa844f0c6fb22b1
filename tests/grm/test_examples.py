"""The example judgement in a prompt: of any number of responses, its best place drawn for each prompt."""

from collections import Counter

import pytest

from grm.judgement import Judgement, ScoreRange, parse
from grm.preferences import Question
from grm.prompts import TemplateError, example_place, load_template, render, template

EXAMPLE = template("example")


def question(n: int) -> Question:
    return Question(id="q", query="Why?", responses=tuple(f"answer {i}." for i in range(n)))


def shown(n: int, place: int, **more: object) -> str:
    return render(question(n), range(n), EXAMPLE, example=place, **more)  # type: ignore[arg-type]


def test_to_the_letter() -> None:
    assert shown(3, 1).endswith(
        "Answer in this form, with your own words and numbers for \\boxed{s1, s2, s3}:\n\n"
        "Specific Criteria: correctness 80%, clarity 20%\n"
        "Analysis: Response 1 is wrong. Response 2 is right. Response 3 is wrong.\n"
        "Scores: \\boxed{2, 9, 2}"
    )


@pytest.mark.parametrize("n", [2, 3, 5])
def test_it_is_a_judgement_of_as_many_responses_whose_best_stands_at_the_place(n: int) -> None:
    for place in range(n):
        read = parse(shown(n, place), n, low=1, high=10)
        assert isinstance(read, Judgement)
        assert [score == max(read.scores) for score in read.scores] == [i == place for i in range(n)]
        assert f"Response {place + 1} is right." in read.critique
        assert read.critique.count("is wrong.") == n - 1


@pytest.mark.parametrize(("scale", "wrong", "right"), [(ScoreRange.VERDICT, 0, 1), (ScoreRange.GRADED, 2, 9)])
def test_of_a_single_response_it_says_right_or_wrong_on_the_scale_that_is_asked_for(
    scale: ScoreRange, wrong: int, right: int
) -> None:
    assert shown(1, 0, score_range=scale).endswith(f"Response 1 is wrong.\nScores: \\boxed{{{wrong}}}")
    assert shown(1, 1, score_range=scale).endswith(f"Response 1 is right.\nScores: \\boxed{{{right}}}")


@pytest.mark.parametrize("n", [1, 2, 3])
def test_its_place_is_drawn_evenly(n: int) -> None:
    places = Counter(example_place(n, str(i)) for i in range(3000))
    assert sorted(places) == list(range(max(2, n)))
    assert all(abs(count - 3000 / len(places)) < 120 for count in places.values())


def test_its_place_is_a_function_of_the_salt_alone() -> None:
    assert [example_place(4, f"{i}") for i in range(20)] == [example_place(4, f"{i}") for i in range(20)]


def test_with_a_hint_it_is_right() -> None:
    hinted = shown(3, 0, hint=2)
    assert "Hint: Response 3 is the best.\n" in hinted
    assert hinted.endswith("\\boxed{2, 2, 9}")
    assert shown(1, 0, hint=1).endswith("\\boxed{1}")


def test_it_is_a_hint_by_itself(tmp_path: object) -> None:
    """A template without {{hint}} can be sampled with hints, if it has an example."""
    path = tmp_path / "own.txt"  # type: ignore[operator]
    path.write_text("{{query}}\n{{responses}}\n{{scores}} as in\n{{example}}\n")
    own = load_template(path)
    assert render(question(2), (1, 0), own, hint=0).endswith("\\boxed{9, 2}")
    assert "Hint" not in render(question(2), (1, 0), own, hint=0)
    path.write_text("{{query}}\n{{responses}}\n{{scores}}")
    with pytest.raises(TemplateError, match=r"has no \{\{hint\}\}"):
        render(question(2), (1, 0), load_template(path), hint=0)


def test_a_template_that_shows_one_needs_its_place() -> None:
    with pytest.raises(ValueError, match="draw its best place"):
        render(question(2), (0, 1), EXAMPLE)
