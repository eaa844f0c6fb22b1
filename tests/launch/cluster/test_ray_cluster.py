"""Where the ranks of a learner meet, with recorded calls for actors."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from configs.load import load
from launch.cluster import ray_session
from launch.cluster.ray_cluster import Cluster

NODE = "10.0.0.7"


class Rank:
    """An actor whose calls answer at once. It records where it met the others."""

    def __init__(self) -> None:
        self.__ray_call__ = SimpleNamespace(remote=lambda function: NODE)
        self.rendezvous = SimpleNamespace(options=lambda num_returns: SimpleNamespace(remote=lambda host: (host, 4000)))
        self.start = SimpleNamespace(remote=lambda host, port: (host, port))


@pytest.mark.parametrize(("own", "host"), [(True, "127.0.0.1"), (False, NODE)])
def test_ranks_meet_on_loopback_only_in_a_ray_of_our_own(
    own: bool, host: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A joined Ray may have one node now, and place the ranks on nodes that its autoscaler adds."""
    monkeypatch.setattr(ray_session, "alive_nodes", lambda: [{"NodeID": "head"}])
    cluster = Cluster(load("tiny"), run_id="r", folder=tmp_path, model="", gpus=0)
    cluster._ray_folder = tmp_path if own else None
    ranks: list[Any] = [Rank(), Rank()]
    assert cluster.start_ranks(ranks) == [(host, 4000)] * 2
