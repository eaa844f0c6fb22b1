"""Where the ranks of a learner meet, and who did not start, with recorded calls for actors."""

from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from configs.load import load
from launch.cluster import calls, ray_session
from launch.cluster.failures import ActorLost, FinalError
from launch.cluster.ray_cluster import Cluster
from tests.launch.cluster.local_ray import LocalRay, RayError

NODE = "10.0.0.7"


class Rank:
    """An actor whose calls answer at once. It records where it met the others."""

    def __init__(self) -> None:
        self.__ray_call__ = SimpleNamespace(remote=lambda function: NODE)
        self.rendezvous = SimpleNamespace(options=lambda num_returns: SimpleNamespace(remote=lambda host: (host, 4000)))
        self.start = SimpleNamespace(remote=lambda host, port, gpu: (host, port))


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


def answered(error: Exception | None = None) -> Future[None]:
    call: Future[None] = Future()
    if error is None:
        call.set_result(None)
    else:
        call.set_exception(error)
    return call


@pytest.mark.parametrize(
    ("error", "kind"),
    [(ValueError("no classifier"), FinalError), (OSError("no disk"), ActorLost), (RayError("killed"), ActorLost)],
)
def test_who_failed_to_start_is_named_with_its_own_error(
    error: Exception, kind: type[Exception], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(calls, "ray", LocalRay)
    cluster = Cluster(load("tiny"), run_id="r", folder=tmp_path, model="", gpus=0)
    cluster.await_all({answered(): "the policy"})
    with pytest.raises(kind, match=f"^the meta-RM: .*{error}$"):
        cluster.await_all({answered(error): "the meta-RM"})


def test_who_does_not_start_in_time_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(calls, "ray", LocalRay)
    cluster = Cluster(load("tiny", ["waits.start_s=0.1"]), run_id="r", folder=tmp_path, model="", gpus=0)
    with pytest.raises(TimeoutError, match=r"the driver waited 0 s for the meta-RM to start \(waits.start_s\)$"):
        cluster.await_all({Future(): "the meta-RM"})


@pytest.mark.parametrize("one_machine", [True, False])
def test_compiled_kernels_stay_where_actors_have_the_scratch_folder_for_tmpdir(
    one_machine: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Torch keeps them in TMPDIR otherwise, and the scratch folder goes with the run."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "kernels"))
    monkeypatch.setattr(ray_session, "cluster_address", lambda address: "head:6379")
    monkeypatch.setattr(ray_session, "join", lambda address, timeout_s: None)
    monkeypatch.setattr(ray_session, "is_one_machine", lambda: one_machine)
    cluster = Cluster(load("tiny"), run_id="r", folder=tmp_path, model="", gpus=0)
    monkeypatch.setattr(cluster, "_check_room", lambda: None)
    cluster._scratch.make()
    try:
        cluster._join_ray()
        variables = cluster._runtime_env["env_vars"]
        assert variables.get("TMPDIR") == (str(cluster._scratch.folder) if one_machine else None)
        assert variables.get("TORCHINDUCTOR_CACHE_DIR") == (str(tmp_path / "kernels") if one_machine else None)
    finally:
        cluster._scratch.remove()
