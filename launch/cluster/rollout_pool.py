"""The rollout workers of a run while it goes on: as many as the rollout target, replaced when they die, drained when too many.

    launch/scale.py ──▶ target ──▶ reconcile: begin what is missing, drain what is over ──▶ rollout actors
    autoscaler      ──▶    ▲ grows while the learner waits for experience, shrinks while workers wait for prompts

A worker that joins, leaves or dies needs no coordination: what it had claimed is claimed by another. Where the autoscaler is
on, its bounds hold for a person too: scale.py refuses a target outside them, and every change is noted.
"""

import time
from collections.abc import Callable

from actors.rollout_report import RolloutReport
from buffer.rollout_target import rollout_target, set_rollout_target
from configs.schema import Config
from launch.cluster.actor_group import ActorGroup, State
from launch.cluster.autoscaler import Autoscaler
from launch.cluster.stage_actors import StageActors
from launch.cluster.supervision import PLACE_S, SupervisedGroup


class RolloutPool:
    """Keeps the number of rollout workers at the target."""

    def __init__(
        self, actors: StageActors, config: Config, *, on_report: Callable[[RolloutReport], None], note: Callable[[str], None]
    ) -> None:
        """Takes over the rollout workers of a stage.

        Args:
            actors: The stage, whose workers were begun.
            config: The run's.
            on_report: Gets the reports of all workers.
            note: Gets a log line about deaths and changes of the target.
        """
        self._actors, self._config, self._on_report, self._note = actors, config, on_report, note
        self.workers = [self._supervised(group) for group in actors.rollout_groups]
        """All of them, also those that are being made or drain."""
        self._target = len(self.workers)
        self._reached = True  # whether so many were at work since the target was set
        self._autoscaler = Autoscaler(config.rollout.autoscale_min, config.rollout.autoscale_max)
        self._restarts_of_removed = 0
        self._placed_at = time.monotonic()  # when no worker was without a place, or when that was last named
        self._named = False

    @property
    def replaced(self) -> int:
        """Workers that died and were replaced so far."""
        return self._restarts_of_removed + sum(worker.replaced for worker in self.workers)

    def reconcile(self) -> None:
        """Bring the number of workers to the target; let go of workers that have drained. Waits for nothing."""
        target = rollout_target(self._actors.redis, self._actors.address.run_id) or self._config.rollout.workers
        if target != self._target:
            self._note(f"rollout workers: target {target}, running {len(self._staying())}")
            self._target, self._reached = target, False
        for worker in self._leaving():
            if not worker.pending:
                self._remove(worker)
        for _ in range(target - len(self._staying())):
            group = self._actors.new_rollout()
            self._actors.rollout_groups.append(group)
            group.begin()
            self.workers.append(self._supervised(group))
        for worker in self._staying()[target:]:  # the newest go: they are the likeliest not to be ready yet
            if worker.group.state is State.MAKING:
                self._remove(worker)
            elif not worker.pending:  # else after the slice that it is in: see `go_on`
                worker.drain(self._config.waits.drain_s)
        self._name_reached()
        self._name_unplaced()

    def go_on(self, worker: SupervisedGroup) -> None:
        """Give a worker whose slice is over the next one, or its last one where there are more workers than the target."""
        if worker in self._staying()[self._target :] and worker.group.state is State.READY:
            worker.drain(self._config.waits.drain_s)
        else:
            worker.work()

    def autoscale(self, learner_idle: float, rollout_idle: float) -> None:
        """Move the target by one worker, if autoscaling is on and the last optimiser steps call for it."""
        running = len(self._staying())
        target = self._autoscaler.decide(running, learner_idle, rollout_idle)
        if target is None or (target > running and self._unplaced()):  # one more would have no place either
            return
        self._note(
            f"autoscaling: target {target} rollout workers instead of {running} (idle: learner {learner_idle:.0%}, rollout"
            f" {rollout_idle:.0%}; bounds {self._config.rollout.autoscale_min}..{self._config.rollout.autoscale_max})"
        )
        set_rollout_target(self._actors.redis, self._actors.address.run_id, target)

    def _name_reached(self) -> None:
        """Note, once for each target, that as many workers are at work as were asked for, and no other is left."""
        if not self._reached and [worker.group.state for worker in self.workers] == [State.READY] * self._target:
            self._reached = True
            self._note(f"rollout workers: {self._target} at work, as asked for")

    def _name_unplaced(self) -> None:
        """Note that workers have no place in the cluster, and what they wait for: at first soon, then every `waits.start_s`.
        They are no failure: a node may be added, and meanwhile the others go on."""
        unplaced, now = self._unplaced(), time.monotonic()
        if not unplaced:
            self._placed_at, self._named = now, False
        elif now - self._placed_at > (self._config.waits.start_s if self._named else PLACE_S):
            self._placed_at, self._named = now, True
            running = len(self._staying()) - len(unplaced)
            text = self._actors.placement.unplaced_text(worker.group for worker in unplaced).removeprefix("; ")
            self._note(f"rollout workers: {text} (launch/scale.py --rollouts {max(1, running)} takes them back)")

    def _unplaced(self) -> list[SupervisedGroup]:
        return [worker for worker in self.workers if self._actors.placement.is_unplaced(worker.group)]

    def _staying(self) -> list[SupervisedGroup]:
        return [worker for worker in self.workers if worker.group.state in (State.MAKING, State.READY)]

    def _leaving(self) -> list[SupervisedGroup]:
        return [worker for worker in self.workers if worker.group.state in (State.DRAINING, State.ENDED)]

    def _supervised(self, group: ActorGroup) -> SupervisedGroup:
        return SupervisedGroup(group, on_report=self._on_worker_report, restarts=self._config.cluster.restarts, note=self._note)

    def _on_worker_report(self, report: RolloutReport) -> None:
        if report.given_back:
            self._note(f"{report.worker} left and gave {report.given_back} groups back")
        self._on_report(report)

    def _remove(self, worker: SupervisedGroup) -> None:
        worker.group.end()
        self._restarts_of_removed += worker.replaced
        self.workers.remove(worker)
        self._actors.rollout_groups.remove(worker.group)
