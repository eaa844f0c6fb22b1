"""The files of DeepSpeed's checkpoints, given to a function of ours: it copies what they hold, or writes it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from learner.checkpoint_writer import write_state


def engine_files() -> Any:
    """Return DeepSpeed's reader of checkpoints, whose attribute `write` gets each file's state and path instead of a writer."""
    from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine

    class EngineFiles(TorchCheckpointEngine):
        write: Callable[[Any, Path], object] = staticmethod(write_state)

        def save(self, state_dict: Any, path: str) -> None:
            self.write(state_dict, Path(path))

    return EngineFiles()
