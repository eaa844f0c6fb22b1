"""What one judge earned on each preference, on disk, so that two evaluations can be compared on what both of them judged.

    items ─▶ values.jsonl: {"id", "question", "group", "subset", "label", "values": {figure: value}, "score"}

`question` is a digest of query and responses, so the preferences of two evaluations are found by what they say.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from grm.benchmarks import MIDDLE
from grm.item_figures import Plan, measure
from grm.judged import Item
from grm.preferences import Preference
from launch.judging import votes

VALUES = "values.jsonl"


def preference_values(preferences: Sequence[Preference], items: Sequence[Item], *, seed: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each judged preference: the values of the figures that are means, of votes those of all votes.

    A single response has the score of its greedy judgement, MIDDLE where that did not parse: an AUC is no mean.
    """
    marks = {preference.question.id: votes.mark_of(preference) for preference in preferences}
    for item in items:
        ks = (len(item.votes),) if item.votes else ()
        plan = Plan(ks=ks, guided=False, expected=False, seed=seed, draws=1, resamples=1)
        row: dict[str, Any] = {"id": item.id, "question": marks[item.id], "group": item.group, "subset": item.subset}
        row |= {"label": item.label, "values": measure(item, plan)}
        if len(item.lengths) == 1 and item.greedy:
            row["score"] = MIDDLE if item.greedy.scores is None else item.greedy.scores[0]
        yield row
