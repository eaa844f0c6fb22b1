"""What an evaluation shows: a judgement in the order in which its critique numbers the responses."""

from actors.reward import Grade
from launch.judging.heldout import Evaluation


def grade(**changes: object) -> Grade:
    base: dict[str, object] = {
        "preference": "p",
        "permutation": (2, 0, 1),
        "query": "q",
        "responses": ("a", "b", "c"),
        "label": 0,
        "principles": "brevity",
        "critique": "Response 2 is best.",
        "text": "…",
        "scores": (9, 2, 3),
        "failure": "",
        "reward": 1.0,
        "right": True,
        "tokens": 10,
        "version": 4,
    }
    return Grade(**(base | changes))  # type: ignore[arg-type]


def evaluation(*grades: Grade) -> Evaluation:
    return Evaluation(when="after", version=4, rows=len(grades), accuracy=1.0, parse_rate=1.0, tokens=10.0, grades=grades)


def test_a_sample_stands_in_shown_order() -> None:
    (sample,) = evaluation(grade()).samples(5)
    assert sample.responses == ("c", "a", "b")  # shown 1 is response 2 of the preference's own order
    assert sample.scores == (3, 9, 2)
    assert sample.label == 1  # "Response 2", as the critique says
    assert sample.completion == ""


def test_an_unparsable_one_shows_its_text_and_a_single_one_its_verdict() -> None:
    broken, single = evaluation(
        grade(scores=None, failure="no_box", text="hm"),
        grade(permutation=(0,), responses=("a",), label=1, scores=(1,)),
    ).samples(2)
    assert (broken.scores, broken.failure, broken.completion) == ((), "no_box", "hm")
    assert (single.label, single.scores) == (1, (1,))


def test_metrics_name_what_was_measured() -> None:
    assert evaluation(grade()).metrics() == {"eval/version": 4, "eval/accuracy@1": 1.0, "eval/parse_rate@1": 1.0}
