"""Weights that travel by reference through Ray, and a weight board that dies."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
import ray
from buffer.weights import NONE, Edition, WeightsRefused, seal
from configs.load import load
from launch.cluster.ray_cluster import Cluster
from launch.setup.model_files import resolve
from launch.cluster.weight_board import RayWeights, WeightBoard

class Asker:
    def __init__(self, weights):
        self.weights = weights

    def pulled(self):
        return self.weights.pull().arrays["w"].tolist()

    def ask(self, until):
        while self.weights.newest() != until:
            self.weights.pull()
        return True

def weights_of(version):
    return seal(version, {"w": np.full(2, version, np.float32)}, {"w": "float32"})

def asked_wrongly(board, edition):
    try:
        ray.get(board.put.remote(edition, []), timeout=60)
    except WeightsRefused as error:
        return str(error)

with Cluster(load("tiny"), run_id="weights", folder=Path(sys.argv[1]), model=resolve("tiny"), gpus=0) as cluster:
    board = cluster.remote(WeightBoard, ray_restarts=True)
    learner = RayWeights(board, cluster.address(role="learner"), 60)
    worker = RayWeights(board, cluster.address(role="rollout"), 60)
    asker = cluster.remote(Asker, weights=RayWeights(board, cluster.address(role="rollout"), 60))
    assert worker.newest() == NONE and worker.pull() is None
    learner.publish(weights_of(3))
    learner.publish(weights_of(3))  # the same learner, which did not get the answer
    assert worker.newest() == Edition(0, 3)
    assert ray.get(asker.pulled.remote(), timeout=60) == [3, 3]
    assert "this learner was replaced" in asked_wrongly(board, Edition(0, 2))
    assert "this learner was replaced" in asked_wrongly(board, Edition(-1, 9))

    asking = asker.ask.remote(Edition(0, 4))
    os.kill(ray.get(board.__ray_call__.remote(lambda self: os.getpid()), timeout=60), signal.SIGKILL)
    assert worker.pull() is None, "Ray started it again, and it holds nothing"
    learner.republish_if_lost()
    assert worker.pull().arrays["w"].tolist() == [3, 3]
    learner.publish(weights_of(4))
    assert ray.get(asking, timeout=60), "a worker that asked meanwhile has its answer"

    asker.ask.remote(Edition(0, 5))  # and asks when the run ends
    time.sleep(0.5)
    cluster.end([board])
    time.sleep(1.0)
    print("to its end")
"""


@pytest.mark.slow
def test_a_board_that_dies_is_asked_again_and_one_that_is_ended_prints_nothing(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env |= {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", DRIVER, str(tmp_path)]
    done = subprocess.run(command, env=env, timeout=400, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "to its end" in done.stdout
    assert "will be retried" not in done.stdout, "Ray's words for what is no matter"
