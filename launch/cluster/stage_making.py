"""How the actors of a stage are made: each in its role, with its heartbeat, each time anew when its group died.

config ─▶ settings of an engine, rights of a role ─▶ an actor; several that live and die together ─▶ `ActorGroup`
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from actors.generator import SamplingEngine
from actors.rollout import RolloutActor
from actors.vllm_engine import VllmEngine
from buffer.heartbeat import remove_heartbeat
from buffer.roles import Role
from buffer.rollout_target import next_worker
from buffer.stream_state import Client
from buffer.streams import Address
from buffer.weights import AdapterShape
from configs.schema import Config
from launch.cluster.actor_group import ActorGroup
from launch.cluster.ray_cluster import Cluster
from launch.cluster.weight_board import RayWeights
from launch.setup.engine_settings import engine_settings
from launch.setup.tokenizer import Tokenizer


class StageMaking:
    """Makes the actors of a stage: the base of `StageActors`, which says what the attributes are."""

    engine_part = ""
    """Which of the GPUs that the run holds engines may take: all, as there is no learner that has any."""
    adapters: AdapterShape | None = None
    """Shape of the adapters that the learner of this stage publishes; None: it publishes whole weights, or there is none."""
    address: Address
    redis: Client
    _cluster: Cluster
    _config: Config
    _model: str
    _stage: str
    _tokenizer: Tokenizer | None
    _board: Any

    def new_rollout(self) -> ActorGroup:
        """Returns one more rollout worker, not begun; each time it is made it takes the next number."""
        return self._worker("a rollout actor", self._make_rollout)

    def _worker(self, name: str, make: Callable[[], Mapping[str, Any]]) -> ActorGroup:
        return ActorGroup(name, make=make, start=lambda actors: [a.ready.remote() for a in actors], end=self._end)

    def _end(self, made: Mapping[str, Any]) -> None:
        self._cluster.end(made.values())
        for name in made:
            remove_heartbeat(self.redis, self.address.run_id, name)

    def _make_rollout(self) -> dict[str, Any]:
        config, number = self._config, next_worker(self.redis, self.address.run_id)
        name = f"rollout-{number}"
        actor = self._remote(
            RolloutActor,
            name,
            "rollout",
            gpus=config.rollout.tensor_parallel,
            part=self.engine_part,
            resource=config.rollout.resource,
            config=config,
            name=name,
            source=self._weights("rollout"),
            build=self._engine(number),
        )
        return {name: actor}

    def _engine(self, number: int) -> Callable[[], SamplingEngine]:
        """Returns what builds the engine of the worker of this number, in its process."""
        settings = engine_settings(
            self._config, model=self._model, number=number, tokenizer=self._tokenizer, adapters=self.adapters
        )
        return partial(VllmEngine, settings)

    def _weights(self, role: Role) -> RayWeights:
        """Returns what a process of this role publishes or pulls weights through."""
        return RayWeights(self._board, self._cluster.address(self._stage, role=role), self._config.waits.start_s)

    def _remote(
        self,
        cls: type,
        heartbeat: str,
        role: Role,
        *,
        gpus: int = 0,
        part: str = "",
        resource: str = "",
        **arguments: Any,
    ) -> Any:
        """Returns an actor that reaches the streams in its role only, and whose stacks can be asked for."""
        address = self._cluster.address(self._stage, role=role)
        return self._cluster.remote(
            cls, gpus=gpus, part=part, resource=resource, heartbeat_name=heartbeat, address=address, **arguments
        )
