"""The actors of a stage, started together, mended while it goes on, ended together.

    StageActors      rollout actors: evaluation                                       (this file)
    SamplingActors   these and the reward actor: the cold start's samples             (training_actors.py)
    TrainingActors   these, the GRPO learner and the meta-RM learner: online RL

A stage has one model to start from and one namespace of streams. `actor_watch` says which processes count as dead.
"""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from buffer.heartbeat import Heartbeat, last_heartbeats
from buffer.rollout_target import set_rollout_target
from buffer.streams import Address, connect, remove, setup
from configs.schema import Config
from launch.cluster import calls
from launch.cluster.actor_group import ActorGroup, State
from launch.cluster.actor_watch import ActorWatch
from launch.cluster.failures import ActorLost, CallFailed
from launch.cluster.placement import Placement
from launch.cluster.ray_cluster import Cluster
from launch.cluster.stage_making import StageMaking
from launch.cluster.supervision import SupervisedGroup, await_ready
from launch.cluster.tries import Tries
from launch.cluster.weight_board import WeightBoard
from launch.monitoring import stacks
from launch.monitoring.console import ShowActivity, show_nothing
from launch.setup.gpu_blocks import stage_engines
from launch.setup.tokenizer import Tokenizer

T = TypeVar("T")


class StageActors(StageMaking):
    """Rollout actors under one model. A context manager: entering starts them, leaving ends them.

    `redis`, `heartbeat` and `rollout_groups` exist inside the block only. `address` is that of the stage's streams.
    """

    has_meta_rm = False
    """Whether a meta-RM learner reads the streams of this stage."""

    def __init__(
        self,
        cluster: Cluster,
        config: Config,
        *,
        model: str,
        tokenizer: Tokenizer | None = None,
        stage: str = "",
        note: Callable[[str], None],
        show: ShowActivity = show_nothing,
    ) -> None:
        """Starts nothing yet.

        Args:
            cluster: Where they run.
            config: The run's.
            model: Folder or hub name of the policy to start from.
            tokenizer: The policy's, which knows where a completion ends; None: at the ends that the model's files name.
            stage: Namespace of the stage's streams below the run's; "" is the run's own.
            note: Gets a log line about what dies while the stage starts, and about workers that find no place.
            show: Gets who is started, while the stage starts.
        """
        self._cluster, self._config, self._model, self._stage, self._note = cluster, config, model, stage, note
        self._show = show
        self._tokenizer = tokenizer
        self.address: Address = cluster.address(stage)
        self._watch = ActorWatch(cluster, config)
        r = config.rollout
        self.placement = Placement(cluster, gpus=r.tensor_parallel, resource=r.resource, note=note)
        """Which groups wait for a place in the cluster."""
        self._starting: dict[ActorGroup, SupervisedGroup] = {}  # of rollout actors that were lost

    def __enter__(self) -> Self:
        self.redis = connect(self.address, timeout_s=self._config.waits.server_s)
        self._prepare_streams()
        stack_file = self._cluster.stacks("driver")
        stacks.dump_on_signal(stack_file)
        every_s, hang_s = self._config.heartbeat_interval_s, self._config.waits.hang_s
        self.heartbeat = Heartbeat(self.address, "driver", every_s=every_s, hang_s=hang_s, stacks=str(stack_file))
        self._cluster.stop_last(self.heartbeat)
        self._board = self._cluster.remote(WeightBoard, ray_restarts=True)
        self.rollout_groups: list[ActorGroup] = []
        self._make_others()
        for group in self.groups:  # they must have a place; of the rollout workers as many as possible
            group.begin()
        if self._config.cluster.share_gpu:  # learners first: nothing takes as much at a time as DeepSpeed's start
            self._await_ready(self.groups)
        workers = self.placement.placeable(self._workers())
        self._announce_workers(workers)
        self.rollout_groups = [self.new_rollout() for _ in range(workers)]
        for group in self.rollout_groups:
            group.begin()
        self._await_ready(self.groups)
        self._watch.begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """After an error the cluster ends every actor; an actor or a server that holds on must not hide the error."""
        if kind is None:
            for group in self.groups:
                group.end()
            self._cluster.end([self._board])
            self.heartbeat.stop()
            self._leave_streams()
            self.redis.close()

    @property
    def groups(self) -> list[ActorGroup]:
        """All groups of the stage."""
        return [*self.rollout_groups]

    @property
    def rollouts(self) -> list[Any]:
        """The rollout actors that can be given work."""
        return [group.actors[0] for group in self.rollout_groups if group.state is State.READY]

    @property
    def starting_rollouts(self) -> list[Any]:
        """The calls that answer when rollout actors that are being made are ready."""
        return [ref for group in self.rollout_groups for ref in group.ready_calls]

    # ---- watching and mending ------------------------------------------------------------------------------------

    def watch(self) -> None:
        """End the actors of every group that counts as dead (killed, stopped, cut off, never ready): its calls then fail with
        ActorLost. See `ActorWatch.look`."""
        self.heartbeat.progressed()
        self._watch.look(self.groups, lambda: last_heartbeats(self.redis, self.address.run_id))

    def end_rollout(self, actor: Any) -> None:
        """End a rollout actor that failed a call: whoever supervises its group, or mends the stage, replaces it."""
        self._cluster.end([actor])

    def answers(self, refs: Sequence[Any], *, limit_s: float, what: str) -> list[Any]:
        """Returns what the actors answer, while the heartbeats are watched.

        Raises:
            TimeoutError: They did not within `limit_s`; it says what was waited for.
            ActorLost: One of them died.
        """
        return calls.answers(refs, limit_s=limit_s, what=what, between=self.watch)

    def wait(self, refs: Sequence[Any]) -> None:
        """Wait up to a slice for the first of the calls to end, and watch the heartbeats."""
        calls.first_answered(calls.unanswered(refs), calls.SLICE_S)
        self.watch()

    def retry_on_death(self, act: Callable[[], T], group: ActorGroup) -> T:
        """Returns what `act` returns. When an actor dies under it, the stage is mended and all of it is done again, as often as
        `Tries` allows (else RunFailed).

        Args:
            act: Calls the actors of `group`.
            group: All of it is made again: those that did not die may wait for the one that did.
        """
        tries = Tries(group.name, self._config.cluster.restarts)
        while True:
            try:
                return act()
            except CallFailed as error:
                self._note(f"{group.name} died ({error}): replaced, {tries.died(error)}")
                group.replace()
                self.replace_dead()

    def replace_dead(self) -> None:
        """Replace the groups that do not answer, and wait until they, and those that were being made, are ready; not for
        rollout workers that wait for a place in the cluster: the stage goes on without them."""
        waits = self._config.waits
        limits = {State.MAKING: ("start_s", waits.start_s), State.READY: ("judge_s", waits.judge_s)}
        unplaced = [group for group in self.rollout_groups if self.placement.is_unplaced(group)]
        groups = [group for group in self.groups if group.state in limits and group not in unplaced]
        for group in groups:
            name, limit_s = limits[group.state]
            try:
                refs = [actor.__ray_ready__.remote() for actor in group.actors]
                self.answers(refs, limit_s=limit_s, what=f"{group.name} to answer (waits.{name})")
            except ActorLost:
                group.replace()
        self._await_ready([group for group in groups if group.state is State.MAKING])

    def replace_lost_rollouts(self, lost: Sequence[Any]) -> None:
        """Replace the rollout actors that are lost or failed to start, and take up those that are ready. Waits for nothing.

        For a stage that nobody supervises.

        Raises:
            RunFailed: One failed to start more than `cluster.restarts` times in a row, or for good.
        """
        for group in self.rollout_groups:
            if group.state is State.READY and group.actors[0] in lost:
                group.replace()
            elif group.state is State.MAKING and calls.is_over(group.ready_calls):
                self._starting.setdefault(group, self._supervised(group)).collect()
            if group.state is State.READY:
                self._starting.pop(group, None)

    def _await_ready(self, groups: Sequence[ActorGroup]) -> None:
        await_ready(
            [self._supervised(group) for group in groups],
            limit_s=self._config.waits.start_s,
            are_dispensable=self._are_dispensable,
            why=self.placement.unplaced_text,
            show=self._show,
        )
        if text := self.placement.unplaced_text(groups):
            self._note(f"the stage begins with {len(self.rollouts)} rollout workers{text}")

    def _are_dispensable(self, groups: Sequence[ActorGroup]) -> bool:
        """Whether they are rollout workers beyond the first that wait for a place: they join when there is one."""
        return bool(self.rollouts) and all(
            group in self.rollout_groups and self.placement.is_unplaced(group) for group in groups
        )

    def _supervised(self, group: ActorGroup) -> SupervisedGroup:
        """Returns a group that starts, and has no reports."""
        restarts = self._config.cluster.restarts
        return SupervisedGroup(group, on_report=lambda report: None, restarts=restarts, note=self._note)

    # ---- what the stages differ in -------------------------------------------------------------------------------

    def _prepare_streams(self) -> None:
        remove(self.redis, self.address.run_id)  # of an interrupted try: what counts of it is on disk
        setup(self.redis, self.address.run_id, meta_rm=self.has_meta_rm)

    def _leave_streams(self) -> None:
        """When the stage has ended well: what counts of it is on disk."""
        remove(self.redis, self.address.run_id)

    def _workers(self) -> int:
        return stage_engines(self._config, self._cluster.gpus)

    def _announce_workers(self, workers: int) -> None:
        """Tell the workers by how many they share the prompts; nobody changes their number in this stage."""
        set_rollout_target(self.redis, self.address.run_id, workers)

    def _make_others(self) -> None:
        """The groups of this stage beside the rollout actors."""
