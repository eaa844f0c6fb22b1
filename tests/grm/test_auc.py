import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from grm.statistics import auc


def test_worked_example_with_a_tie() -> None:
    # pairs (right, wrong): (3, 1) won, (3, 2) won, (2, 1) won, (2, 2) tied
    assert auc([3, 2, 1, 2], [True, True, False, False]) == 3.5 / 4


@pytest.mark.parametrize("correct", [[True, True], [False, False], []])
def test_nothing_to_compare(correct: list[bool]) -> None:
    assert auc([0.5] * len(correct), correct) is None


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40))
def test_equals_scikit_learn(rows: list[tuple[int, bool]]) -> None:
    scores, correct = [score / 2 for score, _ in rows], [right for _, right in rows]
    if len(set(correct)) == 2:
        assert auc(scores, correct) == pytest.approx(roc_auc_score(correct, scores), abs=1e-12)
