"""The rollout workers of a run while it goes on: as many as are wished for, replaced when they die, drained when too many.

    launch/scale.py ──▶ wish ──▶ reconcile: begin what is missing, drain what is over ──▶ rollout actors
    autoscaling     ──▶   ▲ grows while the learner waits for experience, shrinks while workers wait for prompts

A worker that joins, leaves or dies needs no coordination: what it had claimed is claimed by another.
"""

from __future__ import annotations

from collections.abc import Callable

from actors.rollout import RolloutReport
from buffer.rollout_target import wish_rollouts, wished_rollouts
from configs.schema import Config
from launch.cluster.stage_actors import Crew
from launch.cluster.supervision import Part
from launch.cluster.actor_group import Unit
from launch.cluster.autoscaler import Autoscaling



class Workforce:
    """heard: gets the reports of all workers. note: told of deaths and of changes."""

    def __init__(
        self, crew: Crew, config: Config, *, heard: Callable[[RolloutReport], None], note: Callable[[str], None]
    ) -> None:
        self._crew, self._config, self._heard, self._note = crew, config, heard, note
        self.parts = [self._part(unit) for unit in crew.rollout_units]
        self._wished = len(self.parts)
        self._scaling = Autoscaling(config.rollout.autoscale_min, config.rollout.autoscale_max)
        self._replaced_and_gone = 0

    @property
    def replaced(self) -> int:
        """Workers that died and were replaced so far."""
        return self._replaced_and_gone + sum(part.replaced for part in self.parts)

    def reconcile(self) -> None:
        """Bring the number of workers to what is wished for; a worker that has drained is let go. Waits for nothing."""
        wished = wished_rollouts(self._crew.redis, self._crew.address.run_id) or self._config.rollout.workers
        if wished != self._wished:
            self._note(f"rollout workers: {wished} wished for, {len(self._staying())} at work")
            self._wished = wished
        for part in [part for part in self.parts if part.unit.leaving and part.method == "drain" and not part.refs]:
            self._let_go(part)
        for _ in range(wished - len(self._staying())):
            unit = self._crew.new_rollout()
            self._crew.rollout_units.append(unit)
            unit.begin()
            self.parts.append(self._part(unit))
        for part in self._staying()[wished:]:  # the newest go: they are the likeliest not to be ready yet
            part.unit.leaving = True
            if not part.unit.ready:
                self._let_go(part)

    def submit(self, part: Part) -> None:
        """The next slice of a worker, or its last one."""
        if not part.unit.leaving:
            part.submit()
        elif part.method != "drain" and part.unit.ready:
            part.method = "drain"
            part.submit(self._config.waits.drain_s)

    def autoscale(self, learner_idle: float, rollout_idle: float) -> None:
        """Wish for one worker more or less, if autoscaling is on and the last optimiser steps ask for it."""
        wish = self._scaling.decide(len(self._staying()), learner_idle, rollout_idle)
        if wish is not None:
            wish_rollouts(self._crew.redis, self._crew.address.run_id, wish)

    def _staying(self) -> list[Part]:
        return [part for part in self.parts if not part.unit.leaving]

    def _part(self, unit: Unit) -> Part:
        return Part(unit, "work", self._heard_one, restarts=self._config.cluster.restarts, note=self._note)

    def _heard_one(self, report: RolloutReport) -> None:
        if report.given_back:
            self._note(f"{report.worker} left and gave {report.given_back} groups back")
        self._heard(report)

    def _let_go(self, part: Part) -> None:
        part.unit.end()
        self._replaced_and_gone += part.replaced
        self.parts.remove(part)
        self._crew.rollout_units.remove(part.unit)



