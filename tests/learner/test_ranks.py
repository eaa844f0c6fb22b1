"""One rank equals two, at every ZeRO stage: real processes over gloo, one launch for all cases (imports are slow)."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from buffer.server import EmbeddedServer
from buffer.streams import Address
from learner.ranks import Ranks
from tests.learner import ranks as cases
from tests.learner.run_by_hand import Run

ROOT = Path(__file__).parents[2]


def launch(world: int, model: Path, folder: Path, url: str) -> dict[str, np.ndarray]:
    """Return the results of rank 0 of `world` processes; show the output of all of them when one fails."""
    logs = [folder / f"rank-{rank}.log" for rank in range(world)]
    started = []
    for rank, log in enumerate(logs):
        command = [sys.executable, "-m", "tests.learner.ranks", rank, world, model, folder, url]
        started.append(
            subprocess.Popen(
                [str(word) for word in command],
                cwd=ROOT,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                stdout=log.open("w"),
                stderr=subprocess.STDOUT,
            )
        )
    try:
        codes = [process.wait(timeout=400) for process in started]
    finally:
        for process in started:
            process.kill()
    assert codes == [0] * world, "\n".join(log.read_text()[-3000:] for log in logs)
    return dict(np.load(folder / "results.npz"))


@pytest.mark.slow
def test_one_rank_equals_two(server: EmbeddedServer, model: Path, tmp_path: Path) -> None:
    run = Run(Address(server.url, "ranks"), tmp_path)
    run.feed(4)
    two = launch(2, model, tmp_path, server.url)
    run.close()

    alone = Ranks(rank=0, world=1, host="127.0.0.1", port=0, device="cpu", timeout_s=60)
    one = cases.everything(model, alone)
    alone.leave()
    assert one.keys() == {name for name in two if not name.startswith("learner: ")}
    for name, array in one.items():
        check_equal(name, two[name], array)
    for results in (one, two):
        for name in [name for name in results if name.startswith("skipping, ")]:
            assert np.array_equal(results[name], results[name.removeprefix("skipping, ")]), name
    plain = {name.removeprefix("ZeRO 0: "): array for name, array in one.items() if name.startswith("ZeRO 0: ")}
    for stage in (1, 2, 3):
        for name, array in plain.items():
            check_equal(f"ZeRO {stage}: {name}", one[f"ZeRO {stage}: {name}"], array)


def check_equal(name: str, actual: np.ndarray, expected: np.ndarray) -> None:
    """Compare losses, gradient norms and other metrics to 1e-5.

    Weights are compared as a whole only: Adam divides a gradient that is nothing but rounding by its own size, so that
    single elements may differ.
    """
    if "metrics" in name:
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5, err_msg=name)
    else:
        assert np.linalg.norm(actual - expected) <= 1e-4 * np.linalg.norm(expected), name
