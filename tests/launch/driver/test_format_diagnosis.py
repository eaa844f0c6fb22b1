"""What is said of a policy that does not keep the format."""

import pytest

from configs.load import load
from launch.driver.format_diagnosis import HOPELESS, is_hopeless, of_completions, of_evaluation, remedies, shown
from launch.judging.heldout import Evaluation
from launch.judging.run_judgements import Unread
from launch.judging.samples import WHOSE

PLAIN = load("tiny", ["cold_start.enabled=false"])
UNREAD = Unread(text="I like the second one.\n\nIt is long.", reason="no_scores")


def judged(strict: float | None, lenient: float = 0.0) -> Evaluation:
    return Evaluation(
        when="before",
        version=0,
        newest_version=0,
        rows=20,
        accuracy=0.0,
        auc=None,
        parse_rate=lenient,
        strict_parse_rate=strict,
    )


def test_a_base_that_keeps_no_format_is_told_with_a_completion_and_what_helps() -> None:
    assert of_evaluation(PLAIN, judged(0.0), UNREAD, whose=WHOSE["before"]) == [
        "the base does not keep the format: 0.0% of its judgements were read as training reads them",
        "one of them (no_scores):",
        "  | I like the second one.",
        "  | ",
        "  | It is long.",
        "what helps:",
        "  - cold_start.enabled=true: the policy learns the format from those of its own judgements that are right",
        "  - prompts.style=example: the prompt shows a judgement",
        "  - rollout.max_new_tokens above 64: judgements have room to end",
    ]


@pytest.mark.parametrize("result", [judged(0.05), judged(None, lenient=0.9)])
def test_of_one_that_keeps_it_nothing_is_said(result: Evaluation) -> None:
    assert of_evaluation(PLAIN, result, UNREAD, whose="the base") == []


def test_what_only_the_lenient_parser_reads_is_no_format() -> None:
    assert of_evaluation(PLAIN, judged(0.0, lenient=0.9), None, whose="the base")[1] == "what helps:"


def test_no_remedy_is_what_the_run_does_already() -> None:
    taught = load("tiny", ["cold_start.enabled=true", "prompts.style=example"])
    assert [line.partition(":")[0] for line in remedies(taught)[1:]] == [
        "  - cold_start.teacher=http",
        "  - rollout.max_new_tokens above 64",
    ]


def test_a_long_completion_is_shown_from_its_beginning() -> None:
    lines = shown(Unread(text="word " * 1000, reason="no_scores"))
    assert len(lines) < 15
    assert max(map(len, lines)) <= 104
    assert lines[-1] == "  | …"


def test_the_failure_says_how_many_were_cut() -> None:
    first, *_ = of_completions(PLAIN, 512, None, cut=0.75).splitlines()
    assert first == "none of 512 judgements was read (75% were cut at rollout.max_new_tokens), so nothing can be learnt"


def test_a_few_judgements_are_no_proof() -> None:
    assert [is_hopeless(*counts) for counts in ((HOPELESS - 1, 0), (HOPELESS, 0), (HOPELESS, 1))] == [False, True, False]
