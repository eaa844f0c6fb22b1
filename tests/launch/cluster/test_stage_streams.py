"""What a stage leaves on a Redis server that others use too: a run its state, everything else nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from buffer import streams
from buffer.server import EmbeddedServer
from buffer.streams import Address
from configs.load import load
from launch.cluster import ray_cluster
from launch.cluster.ray_cluster import Cluster
from launch.cluster.stage_actors import StageActors
from launch.cluster.training_actors import SamplingActors, TrainingActors
from launch.judging.evaluation_judging import cluster_for
from launch.judging.evaluation_target import EvaluationTarget
from launch.monitoring.console import show_nothing


class Addressed:
    """In place of a cluster: it has the address of the streams."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def address(self, stage: str = "", *, role: str = "driver") -> Address:
        return self._address


def stage(kind: type[StageActors], address: Address, tmp_path: Path) -> StageActors:
    cluster: Any = Addressed(address)
    more: dict[str, Any] = {} if kind is StageActors else {"preferences": []}
    if kind is TrainingActors:
        more |= {"checkpoints": tmp_path, "cold_start_samples": None, "beside": {}}
    return kind(cluster, load("tiny"), model="m", note=print, **more)


@pytest.mark.parametrize(("kind", "kept"), [(StageActors, False), (SamplingActors, False), (TrainingActors, True)])
def test_a_stage_that_ended_well_leaves_its_keys_only_where_they_are_the_runs_state(
    kind: type[StageActors], kept: bool, client: redis.Redis, address: Address, tmp_path: Path
) -> None:
    actors = stage(kind, address, tmp_path)
    actors.redis = client
    actors._leave_streams()
    assert streams.in_use(client, address.run_id) is kept


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(Cluster, "_join_ray", lambda self: None)
    return


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize("temporary", [True, False])
@pytest.mark.parametrize("error", [None, KeyboardInterrupt()])
def test_an_evaluation_leaves_no_keys_on_the_users_server_however_it_ends(
    temporary: bool, error: BaseException | None, server: EmbeddedServer, client: redis.Redis, address: Address, tmp_path: Path
) -> None:
    config = load("tiny", [f"redis.url={server.url}"])
    other = f"{address.run_id}-other"
    streams.setup(client, other, meta_rm=False)
    try:
        with Cluster(config, run_id=address.run_id, folder=tmp_path, model="", gpus=0, temporary=temporary):
            assert streams.in_use(client, address.run_id)
            if error is not None:
                raise error
    except KeyboardInterrupt:
        assert error is not None
    assert streams.in_use(client, address.run_id) is not temporary
    assert streams.remove(client, other) > 0, "what belongs to another run stays"


def test_two_evaluations_never_share_a_namespace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In two containers they may well be processes of the same number."""
    ids: list[str] = []

    class Recorded:
        def __init__(self, config: Any, *, run_id: str, **named: Any) -> None:
            assert named["temporary"]
            ids.append(run_id)

        def __enter__(self) -> None:
            """Nothing is started."""

        def __exit__(self, *error: object) -> None:
            """Nothing is ended."""

    monkeypatch.setattr(ray_cluster, "Cluster", Recorded)
    target = EvaluationTarget(model="tiny", endpoint="", meta_rm="", out=tmp_path)
    for _ in range(2):
        with cluster_for(load("tiny"), target, engines=True, scorers=False, show=show_nothing):
            pass
    assert len(set(ids)) == 2
    assert all(run_id.startswith("evaluate-") and len(run_id) > len("evaluate-1234567") for run_id in ids)
