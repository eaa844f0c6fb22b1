"""What all learners are made of: ranks that work together, a version, checkpoints, a clock."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from configs.schema import Config
from learner import checkpoint, models
from learner.engine import Engine, Ranks, free_port


class Learner:
    """One rank of a learner, one process. The methods of all ranks are called together, in the same order.

    Rank 0 alone talks to the buffer; the others receive each batch from it. ``version`` counts optimiser steps.
    """

    _engine: Engine
    _model: Any
    _ranks: Ranks

    def __init__(
        self, config: Config, *, rank: int, world: int, zero_stage: int, model_path: str, checkpoints: Path
    ) -> None:
        self._config, self._rank, self._world, self._zero_stage = config, rank, world, zero_stage
        self._model_path, self._checkpoints = model_path, checkpoints
        self._keep = config.learner.keep_checkpoints
        self.version = 0

    @staticmethod
    def rendezvous(host: str = "127.0.0.1") -> tuple[str, int]:
        """Where rank 0 will listen; host: an address of its node that the other ranks can reach."""
        return host, free_port(host)

    def close(self) -> None:
        """Leaves the other ranks; saves nothing."""
        self._engine.close()
        self._ranks.leave()

    def _join(self, host: str, port: int) -> Ranks:
        config = self._config
        return Ranks(
            rank=self._rank,
            world=self._world,
            host=host,
            port=port,
            device=config.cluster.device,
            timeout_s=max(config.waits.start_s, config.waits.progress_s),
        )

    def _resume(self) -> tuple[str, ...]:
        """Loads the newest checkpoint, if there is one; the ids of the entries that it contains."""
        found = checkpoint.newest(self._checkpoints)
        if found is None:
            return ()
        path, record = found
        record.require(ranks=self._world, zero_stage=self._zero_stage, folder=path)
        self._engine.load(path)
        self.version = record.version
        return record.entries

    def _write(self, state: dict[str, Tensor], entries: Sequence[str]) -> None:
        """A checkpoint of this version, whole on disk when it returns; state and entries count on rank 0."""
        if self._rank == 0:
            checkpoint.begin(self._checkpoints, self.version)
        self._ranks.barrier()
        folder = checkpoint.unfinished(self._checkpoints, self.version)
        self._engine.save(folder)
        self._ranks.barrier()
        if self._rank == 0:
            models.save_model(self._model, state, self._model_path, folder / "model")
            record = checkpoint.Record(
                version=self.version, entries=tuple(entries), ranks=self._world, zero_stage=self._zero_stage
            )
            checkpoint.commit(self._checkpoints, record, keep=self._keep)
        self._ranks.barrier()


class Clock:
    """Where the time between two optimiser steps goes."""

    def __init__(self) -> None:
        self._ended, self._waited = time.perf_counter(), 0.0

    def waited(self, seconds: float) -> None:
        self._waited += seconds

    def metrics(self) -> dict[str, float]:
        """Seconds since the last call, and how many of them were spent waiting for experience."""
        now = time.perf_counter()
        period, waited = now - self._ended, self._waited
        self._ended, self._waited = now, 0.0
        return {
            "time/wait_for_experience_s": waited,
            "time/step_s": period,
            "idle/learner_ratio": waited / period,
        }
