"""What the driver is given of the errors of real actors: their own sentence, and whether another try may mend them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = """
import json, os, signal, sys, threading, time
from pathlib import Path
from buffer.weights import WeightsRefused
from configs.load import load
from launch.cluster import calls
from launch.cluster.failures import CallFailed
from launch.cluster.ray_cluster import Cluster
from launch.setup.model_files import resolve

class CannotBeSent(Exception):
    def __init__(self):
        super().__init__("it holds a lock")
        self.lock = threading.Lock()

class Part:
    def __init__(self, fails=False):
        if fails:
            raise RuntimeError("in the constructor")

    def data(self):
        raise ValueError("generation_config.json: temperature\\nwithout do_sample")

    def disk(self):
        raise OSError(28, "No space left on device")

    def ours(self):
        raise WeightsRefused("version 3 is torn")

    def unsendable(self):
        raise CannotBeSent

    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def after(self, seconds):
        time.sleep(seconds)
        return seconds

    def other(self, actor):
        import ray
        ray.get(actor[0].ours.remote())

def failure(ref):
    try:
        calls.answers([ref], limit_s=60, what="")
    except CallFailed as error:
        return [type(error).__name__, str(error), bool(error.signature), "Part" in error.details]

with Cluster(load("tiny"), run_id="own", folder=Path(sys.argv[1]), model=resolve("tiny"), gpus=0) as cluster:
    part, broken = cluster.remote(Part), cluster.remote(Part, fails=True)
    found = {name: failure(getattr(part, name).remote()) for name in ("data", "disk", "ours", "unsendable")}
    found["other"] = failure(cluster.remote(Part).other.remote([part]))
    found["constructor"] = failure(broken.ours.remote())
    slow, quick = cluster.remote(Part).after.remote(600), cluster.remote(Part).after.remote(0)
    first, value = calls.next_answer([slow, quick], limit_s=60, what="")
    try:
        calls.next_answer([slow], limit_s=0.1, what="the slow one")
    except TimeoutError as error:
        found["next"] = [first == quick, value, str(error)]
    found["die"] = failure(part.die.remote())
    print(json.dumps(found), flush=True)
"""


@pytest.mark.full
def test_errors_and_deaths_of_real_actors_are_told_apart_and_are_one_sentence(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env |= {"PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(tmp_path)], env=env, timeout=400, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("{"))  # Ray, too, prints that an actor died
    found = json.loads(line)
    assert found.pop("next") == [True, 0, "the driver waited 0 s for the slow one"]
    assert found.pop("die")[:3] == ["ActorLost", "The actor died unexpectedly before finishing this task.", False]
    assert found == {
        "data": ["FinalError", "ValueError: generation_config.json: temperature without do_sample", False, True],
        "disk": ["ActorLost", "OSError: [Errno 28] No space left on device", False, True],
        "ours": ["ActorLost", "version 3 is torn", True, True],
        "other": ["ActorLost", "version 3 is torn", True, True],
        "unsendable": ["ActorLost", "CannotBeSent: it holds a lock", False, True],
        "constructor": ["ActorLost", "RuntimeError: in the constructor", False, True],
    }
