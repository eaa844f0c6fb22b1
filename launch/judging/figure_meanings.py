"""What the figures of an evaluation mean, in words for who meets them first: on the page, and in docs/evaluation.md.

The exact definitions stand at the head of `grm/benchmarks.py`. `markdown()` is the table of docs/evaluation.md.
"""

import re
from collections.abc import Iterable

MEANINGS = {
    "greedy": "accuracy of one judgement at temperature 0; a tie for the best is split among the tied",
    "greedy_ties_lost": "the same, but a tie for the best counts as wrong",
    "greedy_summed": "accuracy of the summed scores of both orders, in which a liking for a place cancels out",
    "consistency": "share of preferences in which both orders name the same single best response",
    "consistent_accuracy": "share that is right in both orders; a tie is wrong",
    "both_orders": "share that is right in one order and not wrong in the other (the rule of JudgeBench)",
    "expected": "accuracy by expected scores: each score is the mean over what the model might have written"
    " (`eval.expected_scores=true`)",
    "expected_ties_lost": "the same, but a tie for the best counts as wrong",
    "expected_summed": "accuracy of the summed expected scores of both orders",
    "expected_consistency": "share in which the expected scores of both orders name the same single best",
    "tie_rate": "share of parsed judgements with more than one best response",
    "chance": "accuracy of guessing",
    "longest": "accuracy of always choosing the longest response",
    "shortest": "accuracy of always choosing the shortest response",
    "picks_longest": "how often the judge's best is the longest response. Beside `longest`, how often the label is: the"
    " difference is the judge's length bias",
    "picks_first": "how often the judge's best was shown first; without a bias 1/n of n responses, for pairs 50 %",
    "greedy_longest": "accuracy where the best response is the longest one",
    "greedy_shortest": "accuracy where the best response is the shortest one",
    "position_i": "accuracy where the best response was shown in place i; places that differ much: a position bias",
    "vote@k": "accuracy of k votes: sampled judgements in balanced orders, whose scores are summed",
    "vote@k_ties_lost": "the same, but a tie for the best counts as wrong",
    "majority@k": "accuracy of k votes where each is for its best response only",
    "shuffled@k": "accuracy of k votes in drawn orders, as in the paper",
    "guided@k": "accuracy of the half of k votes that the meta-RM (`--meta-rm`) believes in most",
    "guided@k_quarter": "the same with the quarter of k votes that it believes in most",
    "guided@k_one": "the same with the one vote that it believes in most",
    "calibrated@k": "the same with as many votes as were best on the other half of the preferences",
    "k_meta@k": "how many votes that were, on average",
    "weighted@k": "accuracy of k votes, each times the meta-RM's probability that it is right",
    "calibrated_weights@k": "the same, with weights as sharp as was best on the other half of the preferences",
    "sharpness@k": "how sharp they were, on average; 1 is as `weighted@k`",
    "votes_needed@k": "votes, of k cast one after the other, after which the best could not change, on average"
    " (`--early-stop` asks for no more)",
    "vote_consistency": "share of pairs of votes in different orders that name the same single best",
    "brier@k": "Brier score of the shares of k votes, 0 (sure and right) to 1 (sure and wrong): half the squared distance from"
    " the label; for pairs (1 − p)²",
    "ece@k": "expected calibration error of the shares of k votes, ten bins: how far they are from being probabilities; above 0"
    " by chance, the more so the fewer rows",
    "auc_greedy": "of single responses (n = 1), by the score of one judgement: how often a right one scores above a wrong one"
    " (ROC-AUC; chance is 50 %)",
    "auc_expected": "the same by the expected score",
    "auc_vote@k": "the same by the mean score of k votes",
    "auc_guided@k": "the same by the half of k votes that the meta-RM believes in most",
    "parse_rate": "share of judgements from which scores could be read",
    "strict_parse_rate": "share that training's strict reader reads, too",
    "vote_parse_rate": "share of votes from which scores could be read",
    "vote_strict_parse_rate": "share of votes that training's strict reader reads, too",
    "tokens": "mean length of a judgement in tokens; left out where a server counts none",
    "vote_tokens": "mean length of a vote in tokens",
}


def kind_of(name: str) -> str:
    """Returns the name that a figure is explained under.

    >>> kind_of("vote@8_ties_lost"), kind_of("position_2"), kind_of("greedy")
    ('vote@k_ties_lost', 'position_i', 'greedy')
    """
    return re.sub(r"^position_\d+$", "position_i", re.sub(r"@\d+", "@k", name))


def meaning(name: str) -> str:
    """Returns what a figure means, as plain text; "" where there is no such figure."""
    return MEANINGS.get(kind_of(name), "").replace("`", "")


def meanings(names: Iterable[str]) -> dict[str, str]:
    """Returns {kind: what it means, as plain text} of figures, each kind once, in the order of the names."""
    return {kind: meaning(kind) for kind in dict.fromkeys(map(kind_of, names)) if kind in MEANINGS}


def markdown() -> str:
    """Returns the table of docs/evaluation.md."""
    return (
        "\n".join(["| figure | meaning |", "|---|---|", *(f"| `{kind}` | {text} |" for kind, text in MEANINGS.items())]) + "\n"
    )


if __name__ == "__main__":
    print(markdown(), end="")
