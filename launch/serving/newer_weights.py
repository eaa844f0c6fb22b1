"""The weights of a job that still trains: each new checkpoint of its policy, into an engine that goes on answering.

checkpoints/policy/version-000040/model/*.safetensors ─▶ newer ─▶ PublishedWeights ─▶ engine.load, between two decode steps

Requests under way go on under the new weights, as in training; each judgement names the newest version that wrote a token of
it.
"""

import logging
import threading
from pathlib import Path

from actors.generator import SamplingEngine, ServedEngine
from actors.vllm_build import VllmSettings
from buffer.weights import CARRIER, Array, PublishedWeights, seal
from launch.serving.log_file import log_to
from learner import checkpoint

LOOK_S = 5.0
SERVED = 1  # the incarnation of what is loaded: an engine begins with 0
logger = logging.getLogger(__name__)


def newer(run: Path, than: int) -> PublishedWeights | None:
    """Returns the newest weights of a run's policy; None where none are newer than a version.

    Raises:
        OSError: The checkpoint was removed meanwhile, as a job keeps only its newest.
    """
    folder = run / "checkpoints" / "policy"
    versions = checkpoint.versions(folder)
    if not versions or versions[-1] <= than:
        return None
    arrays: dict[str, Array] = {}
    dtypes: dict[str, str] = {}
    for file in sorted((checkpoint.at(folder, versions[-1]) / "model").glob("*.safetensors")):
        _read(file, arrays, dtypes)
    if not arrays:
        raise FileNotFoundError(f"{checkpoint.at(folder, versions[-1])}: no weights are there any more")
    return seal(versions[-1], arrays, dtypes, incarnation=SERVED)


def _read(file: Path, arrays: dict[str, Array], dtypes: dict[str, str]) -> None:
    import torch
    from safetensors import safe_open

    with safe_open(file, framework="pt") as tensors:  # type: ignore[no-untyped-call]
        for name in tensors.keys():  # noqa: SIM118 - it is no mapping
            tensor = tensors.get_tensor(name)
            dtypes[name] = str(tensor.dtype).removeprefix("torch.")
            assert dtypes[name] in CARRIER, f"{file}: {name} is {dtypes[name]}"
            plain = tensor.view(torch.int16) if dtypes[name] == "bfloat16" else tensor
            arrays[name] = plain.contiguous().numpy()


class Follower:
    """A thread that loads each newer checkpoint of a run."""

    def __init__(self, engine: SamplingEngine, run: Path, version: int, *, look_s: float = LOOK_S) -> None:
        """Begins to look. `version` is what the engine was built with."""
        self._engine, self._run, self._look_s = engine, run, look_s
        self.version = version
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="newer-weights", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it; what is being loaded is loaded first."""
        self._ended.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._ended.wait(self._look_s):
            try:
                weights = newer(self._run, self.version)
            except Exception as error:  # of whatever kind: it is read again, and the weights that are loaded go on
                logger.warning("newer weights cannot be read: %s: %s", type(error).__name__, error)
                continue
            if weights is not None:
                seconds = self._engine.load(weights)  # an engine that does not take them has ended, and is replaced
                self.version = weights.version
                logger.warning("serves policy version %d; decoding stood still for %.2f s", self.version, seconds)


def open_engine(log: Path, settings: VllmSettings, run: Path | None, version: int) -> ServedEngine:
    """Returns the engine of a judge, which takes over newer weights while a run trains; called in the engine's process.

    Args:
        log: File of the server's log.
        settings: Of the engine.
        run: The run's folder; None: it is the judge of no run. One that is over has no newer weights, and costs a look now and
            then.
        version: Policy version of the weights that it is built with.
    """
    log_to(log)
    from actors.vllm_engine import VllmEngine

    engine = VllmEngine(settings)
    if run is not None:
        Follower(engine, run, version)
    return engine
