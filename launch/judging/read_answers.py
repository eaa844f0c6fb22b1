"""From a judge's answer to what it says."""

from grm.judgement import Judgement as Read
from grm.judgement import unshuffle
from grm.scored import Judgement
from launch.judging.protocol import Answer, NotJudged
from launch.judging.vote_plan import VotePlan


def read_answer(plan: VotePlan, order: tuple[int, ...], answer: Answer | NotJudged) -> Judgement:
    """Returns the judgement in an answer, or why there is none.

    Args:
        plan: How the judge was asked.
        order: order[shown place] = index of the response.
        answer: What came of it.
    """
    if isinstance(answer, NotJudged):
        return Judgement(scores=None, principles="", critique="", text="", order=order, failure=f"no answer: {answer}")
    read, _ = plan.read(answer, len(order))
    scores, principles, critique, failure = None, "", "", ""
    if isinstance(read, Read):
        scores, principles, critique = unshuffle(read.scores, order), read.principles, read.critique
    else:
        failure = read.reason
    return Judgement(
        scores=scores,
        principles=principles,
        critique=critique,
        text=answer.text,
        order=order,
        failure=failure,
        tokens=answer.tokens,
        version=answer.version,
    )
