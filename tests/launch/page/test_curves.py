"""The points of a curve, of a run that was resumed."""

from typing import Any

from launch.monitoring.records import points


def test_a_resumed_learner_replaces_what_its_checkpoint_lacks() -> None:
    def row(version: int, value: float | None) -> dict[str, Any]:
        return {"elapsed_s": 0, "metrics": {"learner/version": version, "loss/kl": value}}

    first = [row(v, 0.1 * v) for v in (1, 2, 3, 4)]
    assert points([*first, row(3, 9.0)], "loss/kl") == ([(1, 0.1), (2, 0.2), (3, 9.0)], 0)
    assert points([*first, row(2, None)], "loss/kl") == ([(1, 0.1)], 1)
