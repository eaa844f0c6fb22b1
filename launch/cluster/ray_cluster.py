"""Ray and the Redis server of a run, and how a plain class becomes an actor: what every stage of a run shares.

with Cluster(config, …) as cluster:      Ray (joined or started), the Redis server (given or embedded)
    actor = cluster.remote(cls, …)       a plain class made remote
    cluster.await_all({ref: name})       until all have answered, or an error that names the others
leaving the block                        ends every actor, and the driver's heartbeat last; nothing of this run outlives it
"""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import ray
from ray._private.state import state

from buffer.heartbeat import Heartbeat
from buffer.roles import Role
from buffer.server import EmbeddedServer
from buffer.server_watchdog import ServerWatchdog
from buffer.streams import Address, ServerError, connect, remove
from configs.schema import Config
from launch.cluster import calls, ray_session, shared_folder
from launch.cluster.actor_places import ActorPlaces
from launch.cluster.capacity import capacity, require_resource
from launch.cluster.failures import CallFailed
from launch.cluster.own_place import own_address_of, own_gpu_of
from launch.monitoring import processes, stacks
from launch.setup.gpu_blocks import Part
from launch.setup.object_store import object_store_bytes
from launch.setup.places import Scratch, chosen_variables

GRACE_S = 0.2  # in which the processes of a Ray of our own may end by themselves; its agents never do


class Cluster:
    """Everything of a run that is not the driver. Use as a context manager."""

    def __init__(
        self,
        config: Config,
        *,
        run_id: str,
        folder: Path,
        model: str,
        gpus: int,
        held: Sequence[Part] = (),
        rollouts: bool = True,
        temporary: bool = False,
        continued: bool = False,
    ) -> None:
        """Starts nothing yet.

        Args:
            config: The run's.
            run_id: Name of the run's keys on the Redis server.
            folder: The run's folder; on several nodes all of them must see it (`require_shared_folder`).
            model: The one whose versions will travel through Ray's object store (a folder or hub name); "" if none do.
            gpus: GPUs needed at a time, where the device is cuda; with all rollout workers of the config.
            held: Of them what the run cannot begin without, and therefore holds from its start (`ReservedGpus`).
            rollouts: Rollout actors will run, which need `rollout.resource`.
            temporary: Nothing on the Redis server is needed afterwards: its keys go when the cluster is left.
            continued: The run was begun in an earlier try: it goes on with fewer rollout workers where there is less room.
        """
        self._config, self._gpus, self._temporary, self._continued = config, gpus, temporary, continued
        self._resource = config.rollout.resource if rollouts else ""
        self._run_id, self._folder, self._model, self._url = run_id, folder, model, ""
        self._server: EmbeddedServer | None = None
        self._watchdog: ServerWatchdog | None = None
        self._scratch = Scratch()
        self._ray_folder: Path | None = None
        self._daemons: list[psutil.Process] = []  # of a Ray of our own
        self._runtime_env: dict[str, Any] = {}  # of actors, beyond what they inherit
        self._actors: list[Any] = []
        self._heartbeats: list[Heartbeat] = []  # of the driver, one for each stage that it began
        self._places = ActorPlaces(config, held=held, resource=self._resource)

    def __enter__(self) -> Self:
        os.environ.update(self._environment())
        try:
            self._scratch.make()
            self._url = self._redis_url()
            connect(self.address(), timeout_s=self._config.waits.server_s).close()  # answers, or says why not
            self._join_ray()
        except BaseException:
            self.close()
            self._scratch.remove()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
        self._stop_heartbeats()
        self._scratch.remove()

    def close(self) -> None:
        """End every process; harmless when repeated. Actors go by `ray.kill`: all they hold that matters is in Redis or in a
        checkpoint."""
        left = processes.tree(self._daemons)
        if ray.is_initialized():
            self.end(list(self._actors))
            self._places.release()
            ray.shutdown()
        processes.await_exit_or_kill(left, grace_s=GRACE_S)
        if self._temporary and self._url and self._server is None:
            self._stop_heartbeats()
            self._remove_keys()
        if self._watchdog is not None:
            self._watchdog.stop()
            self._watchdog = self._server = None
        self._ray_folder = None

    def stop_last(self, heartbeat: Heartbeat) -> None:
        """Stop this heartbeat of the driver when the cluster is left, however that comes, and every process has ended: on a
        server of the user's no other driver may go on with the run before (`require_own_streams`)."""
        self._heartbeats.append(heartbeat)

    def address(self, stage: str = "", *, role: Role = "driver") -> Address:
        """Returns where the streams of a stage are: each stage that has streams has a namespace of its own.

        The embedded server lets each role do its own work only; on a server of the user's, all roles are the user that
        `redis.url` names.
        """
        url = self._server.url_for(role) if self._server is not None else self._url
        return Address(url=url, run_id=f"{self._run_id}.{stage}" if stage else self._run_id).with_password()

    @property
    def owns_ray(self) -> bool:
        """Whether Ray was started for this run, and ends with it."""
        return self._ray_folder is not None

    @property
    def variables(self) -> dict[str, str]:
        """Variables that processes of a Ray of others need to be given; one of our own has them."""
        return dict(self._runtime_env.get("env_vars", {}))

    @property
    def gpus(self) -> int:
        """GPUs that the actors may take at a time: those that were asked for, or as many as are left of them. 0 on CPU."""
        return min(self._gpus, int(capacity().get("GPU", 0))) if self._config.cluster.device == "cuda" else 0

    @property
    def held_gpus(self) -> int:
        """GPUs that the run holds from its start to its end, of its own; 0 on CPU, and where its parts share one."""
        return self._places.held_gpus

    def drawn_gpus(self) -> list[str]:
        """Returns which node has which parts of the run, a line for each node; none where nothing is held."""
        return self._places.drawing()

    def stacks(self, name: str) -> Path:
        """Returns the file into which the process of this name writes its stacks on SIGUSR1."""
        folder = self._folder / "stacks"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder / f"{name}.txt"

    def require_shared_folder(self) -> None:
        """ConfigError, with their names, when nodes of the cluster do not see the run's folder."""
        shared_folder.require_shared(self._folder, limit_s=self._config.waits.start_s)

    # ---- actors --------------------------------------------------------------------------------------------------

    def remote(
        self,
        cls: type,
        *,
        gpus: int = 0,
        part: str = "",
        resource: str = "",
        ray_restarts: bool = False,
        heartbeat_name: str = "",
        **arguments: Any,
    ) -> Any:
        """Returns an actor of a plain class. With a GPU it is made on those that the run holds, while they have room.

        Args:
            cls: The class; it is made in the actor's process.
            gpus: How many GPUs it takes, if there are any, all of one node.
            part: Of the GPUs that the run holds it may take those of this part alone; "": any of them.
            resource: A custom Ray resource that it takes one of.
            ray_restarts: Ray itself starts it again. Its state is lost then, and calls under way fail.
            heartbeat_name: The name of its heartbeat; its stacks can then be asked for.
            **arguments: Of the class.
        """
        demand = self._places.demand(gpus, resource)
        bundle = self._places.bundle(demand, part)
        if heartbeat_name:
            arguments["stacks"] = str(self.stacks(heartbeat_name))
        made: Any = ray.remote(
            num_cpus=demand["CPU"],
            num_gpus=demand["GPU"],
            max_restarts=-1 if ray_restarts else 0,
            resources={resource: 1} if resource else {},
            runtime_env=self._runtime_env,
            **self._places.options(bundle),
        )(cls)
        actor = made.remote(**arguments)
        self._places.made(actor._actor_id.hex(), demand, bundle)
        if heartbeat_name:
            actor.__ray_call__.remote(_listen_for_stacks, self.stacks(heartbeat_name))
        self._actors.append(actor)
        return actor

    def end(self, actors: Iterable[Any]) -> None:
        """End some actors; harmless for those that have ended."""
        for actor in actors:
            if actor in self._actors:
                ray.kill(actor)
                self._actors.remove(actor)
                self._places.ended(actor._actor_id.hex())

    def are_placed(self, actors: Iterable[Any]) -> bool:
        """Returns whether each has a process, in which it may still be made; else it waits for room in the cluster."""
        return all(state.actor_table(actor._actor_id.hex()).get("Address", {}).get("IPAddress") for actor in actors)

    def places(self, *, gpus: int, resource: str) -> int:
        """Returns how many more actors of this kind have room beside those that there are; arguments as of `remote`."""
        return self._places.places(self._places.demand(gpus, resource))

    def shortage(self, *, gpus: int, resource: str) -> str:
        """Returns what actors of this kind ask for and what the cluster has of it, in words."""
        return self._places.shortage(self._places.demand(gpus, resource))

    def shortage_of(self, actor: Any) -> str:
        """Returns what an actor that has no place asks for, and what the cluster has of it, in words."""
        return self._places.shortage_of(actor._actor_id.hex())

    def start_ranks(self, ranks: Sequence[Any]) -> list[Any]:
        """Let the ranks of a learner meet and start. Returns the calls that answer when they are ready; waits for none.

        In a Ray of our own they meet on loopback. In any other, even of one node, an autoscaler may place them on several.
        """
        own = ranks[0].__ray_call__.remote(own_address_of) if self._ray_folder is None else "127.0.0.1"
        host, port = ranks[0].rendezvous.options(num_returns=2).remote(own)
        return [rank.start.remote(host, port, rank.__ray_call__.remote(own_gpu_of)) for rank in ranks]

    def await_all(self, waiting: Mapping[Any, str]) -> None:
        """Wait until all have answered.

        Args:
            waiting: The calls, each with the name of what it starts.

        Raises:
            TimeoutError: It names those that did not answer within `waits.start_s`.
            ActorLost, FinalError: One failed to start; with its name and its own error.
        """
        left, limit_s = dict(waiting), self._config.waits.start_s
        deadline = time.monotonic() + limit_s
        while left:
            done = calls.first_answered(list(left), max(0.0, deadline - time.monotonic()))
            if not done:
                raise TimeoutError(
                    f"the driver waited {limit_s:.0f} s for {', '.join(left.values())} to start (waits.start_s)"
                    f"{self._unplaced_text()}"
                )
            name = left.pop(done[0])
            try:
                calls.values(done)
            except CallFailed as error:
                raise error.of(name) from error

    def _unplaced_text(self) -> str:
        """Returns what an actor waits for that has no place, with a separator; "" when all have one."""
        unplaced = [actor for actor in self._actors if not self.are_placed([actor])]
        return f"; {len(unplaced)} of them have no place in the cluster: {self.shortage_of(unplaced[0])}" if unplaced else ""

    # ---- servers -------------------------------------------------------------------------------------------------

    def _redis_url(self) -> str:
        if self._config.redis.url:
            return self._config.redis.url
        self._server = EmbeddedServer(self._folder / "redis", fsync=self._config.redis.fsync, sockets=self._scratch.folder)
        url = self._server.start(timeout_s=self._config.waits.server_s)
        self._watchdog = ServerWatchdog(self._server, tries=self._config.cluster.restarts)
        return url

    def _stop_heartbeats(self) -> None:
        """An embedded server has ended, and a server that is gone is not waited for."""
        heartbeats, self._heartbeats = self._heartbeats, []
        if heartbeats and self._config.redis.url:
            with suppress(ServerError):
                connect(self.address(), timeout_s=self._config.waits.server_s).close()
                for heartbeat in heartbeats:
                    heartbeat.stop()

    def _remove_keys(self) -> None:
        """No process is left that could write them again."""
        address = self.address()
        with suppress(ServerError), connect(address, timeout_s=self._config.waits.server_s) as client:
            remove(client, address.run_id)

    def _environment(self) -> dict[str, str]:
        """Returns the variables of every process of the run: which run it belongs to, and what its libraries read at import.

        Threads share two of glibc's heaps. It would give up to eight a core, one to each thread that fetches weights or reads a
        stream: a rollout actor of `tiny` then held 1.5 GB after 500 versions, and holds 1.4.
        """
        heaps = {"MALLOC_ARENA_MAX": os.environ.get("MALLOC_ARENA_MAX", "2")}
        variables = {"SPCT_RUN": str(self._folder), "OMP_NUM_THREADS": "1", **heaps, **chosen_variables()}
        return variables | ({"DS_ACCELERATOR": "cpu"} if self._config.cluster.device == "cpu" else {})

    def _join_ray(self) -> None:
        address = ray_session.cluster_address(self._config.cluster.address)
        if address is not None:
            ray_session.join(address, timeout_s=self._config.waits.server_s)
            self._scratch.use()  # not before: where TMPDIR is, Ray looks for the address of a cluster
            here = self._scratch.variables() if ray_session.is_one_machine() else {}
            self._runtime_env = {"env_vars": self._environment() | here}
        else:
            # Its workers inherit our environment; with a runtime environment each actor would wait for a process of its own.
            self._scratch.use()
            self._ray_folder = self._scratch.folder / "r"
            self._daemons = ray_session.start_own(self._ray_folder, object_store_bytes(self._config, self._model))
        self._check_room()

    def _check_room(self) -> None:
        """Refuse (ConfigError) what the cluster could never place, and reserve what the run cannot begin without."""
        workers = self._config.rollout.workers
        spare = workers - 1 if self._continued else 0  # workers that may be missing
        gpus = self._gpus - spare * self._config.rollout.tensor_parallel if self._config.cluster.device == "cuda" else 0
        ray_session.check_room(gpus=gpus, embedded_redis=self._server is not None)
        if self._resource:
            require_resource(self._resource, workers - spare, capacity())
        self._places.reserve()


def _listen_for_stacks(actor: Any, file: Path) -> None:
    """Runs inside an actor."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    stacks.dump_on_signal(file)
