"""How well scores separate right from wrong (pure, standard library)."""

from collections.abc import Sequence
from itertools import groupby


def auc(scores: Sequence[float], correct: Sequence[bool]) -> float | None:
    """Area under the ROC curve by ranks: P(score of a right one > score of a wrong one), ties count one half.

    The rank-sum form, with tied scores sharing their mean rank:
        AUC = (sum of the ranks of the right ones - n1 (n1 + 1) / 2) / (n1 * n0).

    Returns:
        A number in [0, 1], or None when all are right or all are wrong (no pair to compare).
    """
    pairs = sorted(zip(scores, correct, strict=True))
    right = sum(1 for _, is_right in pairs if is_right)
    wrong = len(pairs) - right
    if right == 0 or wrong == 0:
        return None
    rank_sum, before = 0.0, 0
    for _, tied in groupby(pairs, key=lambda pair: pair[0]):
        members = [is_right for _, is_right in tied]
        rank_sum += sum(members) * (before + (len(members) + 1) / 2)
        before += len(members)
    return (rank_sum - right * (right + 1) / 2) / (right * wrong)
