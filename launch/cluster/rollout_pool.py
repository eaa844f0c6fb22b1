"""The rollout workers of a run while it goes on: as many as are target for, replaced when they die, drained when too many.

    launch/scale.py ──▶ wish ──▶ reconcile: begin what is missing, drain what is over ──▶ rollout actors
    autoscaling     ──▶   ▲ grows while the learner waits for experience, shrinks while workers wait for prompts

A worker that joins, leaves or dies needs no coordination: what it had claimed is claimed by another.
"""

from __future__ import annotations

from collections.abc import Callable

from actors.rollout import RolloutReport
from buffer.rollout_target import rollout_target, set_rollout_target
from configs.schema import Config
from launch.cluster.actor_group import ActorGroup
from launch.cluster.autoscaler import Autoscaler
from launch.cluster.stage_actors import StageActors
from launch.cluster.supervision import SupervisedGroup


class RolloutPool:
    """on_report: gets the reports of all workers. note: told of deaths and of changes."""

    def __init__(
        self, actors: StageActors, config: Config, *, on_report: Callable[[RolloutReport], None], note: Callable[[str], None]
    ) -> None:
        self._actors, self._config, self._on_report, self._note = actors, config, on_report, note
        self.parts = [self._part(group) for group in actors.rollout_groups]
        self._wished = len(self.parts)
        self._autoscaler = Autoscaler(config.rollout.autoscale_min, config.rollout.autoscale_max)
        self._replaced_and_gone = 0

    @property
    def replaced(self) -> int:
        """Workers that died and were replaced so far."""
        return self._replaced_and_gone + sum(part.replaced for part in self.parts)

    def reconcile(self) -> None:
        """Bring the number of workers to what is target for; a worker that has drained is let go. Waits for nothing."""
        target = rollout_target(self._actors.redis, self._actors.address.run_id) or self._config.rollout.workers
        if target != self._wished:
            self._note(f"rollout workers: {target} target for, {len(self._staying())} at work")
            self._wished = target
        for part in [part for part in self.parts if part.group.leaving and part.method == "drain" and not part.refs]:
            self._let_go(part)
        for _ in range(target - len(self._staying())):
            group = self._actors.new_rollout()
            self._actors.rollout_groups.append(group)
            group.begin()
            self.parts.append(self._part(group))
        for part in self._staying()[target:]:  # the newest go: they are the likeliest not to be ready yet
            part.group.leaving = True
            if not part.group.ready:
                self._let_go(part)

    def submit(self, part: SupervisedGroup) -> None:
        """The next slice of a worker, or its last one."""
        if not part.group.leaving:
            part.submit()
        elif part.method != "drain" and part.group.ready:
            part.method = "drain"
            part.submit(self._config.waits.drain_s)

    def autoscale(self, learner_idle: float, rollout_idle: float) -> None:
        """Wish for one worker more or less, if autoscaling is on and the last optimiser steps ask for it."""
        wish = self._autoscaler.decide(len(self._staying()), learner_idle, rollout_idle)
        if wish is not None:
            set_rollout_target(self._actors.redis, self._actors.address.run_id, wish)

    def _staying(self) -> list[SupervisedGroup]:
        return [part for part in self.parts if not part.group.leaving]

    def _part(self, group: ActorGroup) -> SupervisedGroup:
        return SupervisedGroup(group, "work", self._on_one_report, restarts=self._config.cluster.restarts, note=self._note)

    def _on_one_report(self, report: RolloutReport) -> None:
        if report.given_back:
            self._note(f"{report.worker} left and gave {report.given_back} groups back")
        self._on_report(report)

    def _let_go(self, part: SupervisedGroup) -> None:
        part.group.end()
        self._replaced_and_gone += part.replaced
        self.parts.remove(part)
        self._actors.rollout_groups.remove(part.group)
