"""The parts of a run as Ray actors: plain classes made remote here, started together, ended together.

    Cluster(config, …)         Ray (joined or started), the Redis server (given or embedded), the weight board
      .rollouts  .reward  .grpo[ranks]  .meta_rm[ranks]          actor handles, all ready when `start` returns
    leaving the `with` block   ends every part; nothing that this run started outlives it
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import ray

from actors.engine import ENVIRONMENT as ENGINE_ENVIRONMENT
from actors.engine import EngineSettings, VllmEngine
from actors.reward import RewardActor
from actors.rollout import RolloutActor
from buffer.server import EmbeddedServer
from buffer.streams import Address, connect, setup
from configs.load import ConfigError
from configs.schema import Config
from grm.preferences import Preference
from launch.plan import gpus_wanted, object_store_bytes
from launch.weights import RayWeights, WeightBoard
from learner.grpo import GRPOLearner
from learner.meta_rm import MetaRMLearner

ROOT = Path(__file__).resolve().parent.parent
# Placement hint of an actor on a CPU cluster: many roles share few cores, so none may claim a whole one.
CPU_SHARE = 0.1


class Cluster:
    """Everything of a run that is not the driver. Use as a context manager."""

    def __init__(
        self, config: Config, *, run_id: str, folder: Path, model: str, preferences: Iterable[Preference]
    ) -> None:
        self._config = config
        self._run_id = run_id
        self._folder = folder
        self._model = model
        self._preferences = list(preferences)
        self._server: EmbeddedServer | None = None
        self._ray_folder: Path | None = None
        self._actors: list[Any] = []
        self.rollouts: list[Any] = []
        self.grpo: list[Any] = []
        self.meta_rm: list[Any] = []

    def __enter__(self) -> Self:
        os.environ["SPCT_RUN"] = str(self._folder)  # every process of the run inherits it: whose is this one?
        try:
            self.address = Address(url=self._redis_url(), run_id=self._run_id).with_password()
            self.redis = connect(self.address, timeout_s=self._config.waits.server_s)
            setup(self.redis, self._run_id, meta_rm=self._config.meta_rm.enabled)
            self._join_ray()
            self._start_actors()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every part. Actors go by `ray.kill`: all they hold that matters is in Redis or in a checkpoint."""
        if ray.is_initialized():
            for actor in self._actors:
                ray.kill(actor)
            ray.shutdown()
        self._actors.clear()
        if self._server is not None:
            self._server.stop()
            self._server = None
        if self._ray_folder is not None:
            shutil.rmtree(self._ray_folder, ignore_errors=True)  # a dying daemon may still write its last log line
            self._ray_folder = None

    # ---- servers -------------------------------------------------------------------------------------------------

    def _redis_url(self) -> str:
        if self._config.redis.url:
            return self._config.redis.url
        self._server = EmbeddedServer(self._folder / "redis", fsync=self._config.redis.fsync)
        return self._server.start(timeout_s=self._config.waits.server_s)

    def _join_ray(self) -> None:
        address = self._config.cluster.address
        if address != "auto" or "RAY_ADDRESS" in os.environ:
            ray.init(address=address, log_to_driver=False)
            self._check_room()
            return
        # Our own, on loopback only. All processes must agree on these, so they are set before the first one starts.
        # PYTHONPATH: actors unpickle our classes wherever the driver was started (in a job, Ray's working_dir sees to it).
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        os.environ["RAY_AUTH_MODE"] = "disabled"
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        self._ray_folder = Path(tempfile.mkdtemp(prefix="spct-"))  # short: Ray's socket names have 107 bytes
        ray.init(
            address="local",
            num_cpus=os.cpu_count(),
            include_dashboard=False,
            object_store_memory=object_store_bytes(self._model),
            _temp_dir=str(self._ray_folder),
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        self._check_room()

    def _check_room(self) -> None:
        """Refuse at the door what the cluster could never place, instead of waiting for it."""
        nodes = [node for node in ray.nodes() if node["Alive"]]
        if len(nodes) > 1 and self._server is not None:
            raise ConfigError(
                f"the Ray cluster has {len(nodes)} nodes, and the embedded Redis is reached from one only:"
                " set redis.url to a server that all nodes reach"
            )
        if self._config.cluster.device == "cuda":
            wanted, there = gpus_wanted(self._config), int(ray.cluster_resources().get("GPU", 0))
            if wanted > there:
                raise ConfigError(
                    f"rollout.workers + learner.ranks + meta_rm.ranks = {wanted} GPUs wanted, the cluster has {there}"
                )

    # ---- actors --------------------------------------------------------------------------------------------------

    def _start_actors(self) -> None:
        config = self._config
        self.board = self._remote(WeightBoard, {})
        weights = RayWeights(self.board, config.waits.start_s)
        labelled = ray.put(self._preferences)
        self.reward = self._remote(
            RewardActor, {}, config=config, name="reward-0", address=self.address, preferences=labelled
        )
        self.rollouts = [self._rollout(index, weights) for index in range(config.rollout.workers)]
        self.grpo = [
            self._remote(GRPOLearner, {}, gpu=True, **self._rank(rank, config.learner.ranks, "policy"), sink=weights)
            for rank in range(config.learner.ranks)
        ]
        if config.meta_rm.enabled:
            self.meta_rm = [
                self._remote(MetaRMLearner, {}, gpu=True, **self._rank(rank, config.meta_rm.ranks, "meta-rm"))
                for rank in range(config.meta_rm.ranks)
            ]
        self._await_ready()

    def _rollout(self, index: int, weights: RayWeights) -> Any:
        config = self._config
        settings = EngineSettings(
            model_path=self._model,
            dtype=config.dtype,
            context=config.model.context,
            sequences=config.rollout.max_groups * config.rollout.samples,
            kv_cache_bytes=config.rollout.kv_cache_mb << 20,
            gpu_memory=config.rollout.gpu_memory,
            seed=config.run.seed * 1009 + index,
            device=config.cluster.device,
        )
        return self._remote(
            RolloutActor,
            ENGINE_ENVIRONMENT,
            gpu=True,
            config=config,
            name=f"rollout-{index}",
            address=self.address,
            source=weights,
            build=partial(VllmEngine, settings),
        )

    def _rank(self, rank: int, world: int, name: str) -> dict[str, Any]:
        return {
            "config": self._config,
            "rank": rank,
            "world": world,
            "model_path": self._model,
            "address": self.address,
            "checkpoints": self._folder / "checkpoints" / name,
        }

    def _remote(self, cls: type, environment: Mapping[str, str], *, gpu: bool = False, **arguments: Any) -> Any:
        on_gpu = gpu and self._config.cluster.device == "cuda"
        variables = {"OMP_NUM_THREADS": "1", "SPCT_RUN": str(self._folder), **environment}
        if self._config.cluster.device == "cpu":
            variables["DS_ACCELERATOR"] = "cpu"
        remote: Any = ray.remote(
            num_cpus=1 if on_gpu else CPU_SHARE,
            num_gpus=1 if on_gpu else 0,
            max_restarts=0,
            runtime_env={"env_vars": variables},
        )(cls)
        actor = remote.remote(**arguments)
        self._actors.append(actor)
        return actor

    def _host_of(self, actor: Any) -> str:
        """Where the other ranks reach this one: loopback on a single node, else the address of its node."""
        if len([node for node in ray.nodes() if node["Alive"]]) == 1:
            return "127.0.0.1"
        return str(ray.get(actor.__ray_call__.remote(_own_address), timeout=self._config.waits.start_s))

    def _await_ready(self) -> None:
        waiting: dict[Any, str] = {self.reward.ready.remote(): "reward-0"}
        waiting |= {actor.ready.remote(): f"rollout-{i}" for i, actor in enumerate(self.rollouts)}
        for name, ranks in (("grpo", self.grpo), ("meta-rm", self.meta_rm)):
            if ranks:
                host, port = ray.get(ranks[0].rendezvous.remote(self._host_of(ranks[0])), timeout=self._config.waits.start_s)
                waiting |= {actor.start.remote(host, port): f"{name}-{i}" for i, actor in enumerate(ranks)}
        deadline = time.monotonic() + self._config.waits.start_s
        while waiting:
            done, _ = ray.wait(list(waiting), num_returns=1, timeout=max(0.0, deadline - time.monotonic()))
            if not done:
                raise TimeoutError(
                    f"the driver waited {self._config.waits.start_s:.0f} s for {', '.join(waiting.values())} to start"
                    " (waits.start_s)"
                )
            ray.get(done[0])  # a part that failed to start raises here, with its own error
            del waiting[done[0]]


def _own_address(actor: Any) -> str:
    """Runs inside an actor."""
    return str(ray.util.get_node_ip_address())
