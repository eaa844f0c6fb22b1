"""What of the policy a learner publishes and keeps: all weights, or adapters alone.

WholePolicy      full_state ─▶ published whole; checkpoints hold model/, a whole model
AdapterPolicy    trained_state ─▶ adapters alone; checkpoints hold adapter/, which launch/merge.py makes a whole model of
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from torch import Tensor
from transformers import PreTrainedModel

from buffer.weights import Probe, PublishedWeights
from learner import adapters, models
from learner.deepspeed_engine import Engine
from learner.weight_export import to_published_adapters, to_published_weights

FOLDER = "adapter"  # of a checkpoint of adapters


class PolicyWeights(Protocol):
    """The policy's weights on their way to rollout actors and to disk."""

    def gather(self, engine: Engine, model: PreTrainedModel) -> dict[str, Tensor]:
        """Return the weights by name on the CPU of rank 0, nothing on the other ranks. A collective."""
        ...

    def to_published(
        self, version: int, state: Mapping[str, Tensor], model: PreTrainedModel, *, incarnation: int, probe: Probe | None
    ) -> PublishedWeights:
        """Return what rollout actors pull, made of what `gather` returned."""
        ...

    def save(self, model: PreTrainedModel, state: Mapping[str, Tensor], source: str, checkpoint: Path) -> None:
        """Write what `gather` returned into a folder of a checkpoint. `source` is what the model was loaded from."""
        ...


class WholePolicy:
    """All weights are trained."""

    def gather(self, engine: Engine, model: PreTrainedModel) -> dict[str, Tensor]:
        return engine.full_state(model)

    def to_published(
        self, version: int, state: Mapping[str, Tensor], model: PreTrainedModel, *, incarnation: int, probe: Probe | None
    ) -> PublishedWeights:
        return to_published_weights(version, state, model, incarnation=incarnation, probe=probe)

    def save(self, model: PreTrainedModel, state: Mapping[str, Tensor], source: str, checkpoint: Path) -> None:
        models.save_model(model, dict(state), source, checkpoint / "model")


class AdapterPolicy:
    """Adapters are trained, beside weights that the engines have and that do not change."""

    def gather(self, engine: Engine, model: PreTrainedModel) -> dict[str, Tensor]:
        return engine.trained_state(model)

    def to_published(
        self, version: int, state: Mapping[str, Tensor], model: PreTrainedModel, *, incarnation: int, probe: Probe | None
    ) -> PublishedWeights:
        return to_published_adapters(version, state, model, incarnation=incarnation, probe=probe)

    def save(self, model: PreTrainedModel, state: Mapping[str, Tensor], source: str, checkpoint: Path) -> None:
        adapters.save(model, state, source, checkpoint / FOLDER)


def policy_weights(lora_rank: int) -> PolicyWeights:
    """Return what is published and kept of a policy whose adapters have this rank (0: none)."""
    return AdapterPolicy() if lora_rank else WholePolicy()
