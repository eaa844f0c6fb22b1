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
from configs.schema import Config
from learner import adapters, models
from learner.deepspeed_engine import Engine
from learner.host_buffers import HostBuffers
from learner.weight_export import to_published_adapters, to_published_weights

MODEL, FOLDER = "model", "adapter"  # of a checkpoint: whole weights, or adapters


class PolicyWeights(Protocol):
    """The policy's weights on their way to rollout actors, to disk and back."""

    def load(self, config: Config, source: str, start: Path | None) -> PreTrainedModel:
        """Return the policy to be trained, made of the model `source`, or with the weights of the checkpoint `start`."""
        ...

    def gather(self, engine: Engine, model: PreTrainedModel, into: HostBuffers | None = None) -> dict[str, Tensor]:
        """Return the weights by name on the CPU of rank 0, nothing on the other ranks. A collective.

        Args:
            engine: that trains them.
            model: inside the engine's module.
            into: where they are copied to; by default to memory of their own.
        """
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

    def load(self, config: Config, source: str, start: Path | None) -> PreTrainedModel:
        return models.load_policy(str(start / MODEL) if start else source, config.dtype, config.cluster.device)

    def gather(self, engine: Engine, model: PreTrainedModel, into: HostBuffers | None = None) -> dict[str, Tensor]:
        return engine.full_state(model, into)

    def to_published(
        self, version: int, state: Mapping[str, Tensor], model: PreTrainedModel, *, incarnation: int, probe: Probe | None
    ) -> PublishedWeights:
        return to_published_weights(version, state, model, incarnation=incarnation, probe=probe)

    def save(self, model: PreTrainedModel, state: Mapping[str, Tensor], source: str, checkpoint: Path) -> None:
        models.save_model(model, dict(state), source, checkpoint / MODEL)


class AdapterPolicy:
    """Adapters are trained, beside weights that the engines have and that do not change."""

    def load(self, config: Config, source: str, start: Path | None) -> PreTrainedModel:
        base = models.load_policy(source, config.dtype, config.cluster.device)
        model = adapters.adapted(base, rank=config.learner.lora_rank, seed=config.run.seed)
        if start is not None:
            adapters.load(model, start / FOLDER)
        return model

    def gather(self, engine: Engine, model: PreTrainedModel, into: HostBuffers | None = None) -> dict[str, Tensor]:
        return engine.trained_state(model, into)

    def to_published(
        self, version: int, state: Mapping[str, Tensor], model: PreTrainedModel, *, incarnation: int, probe: Probe | None
    ) -> PublishedWeights:
        return to_published_adapters(version, state, model, incarnation=incarnation, probe=probe)

    def save(self, model: PreTrainedModel, state: Mapping[str, Tensor], source: str, checkpoint: Path) -> None:
        adapters.save(model, state, source, checkpoint / FOLDER)


def policy_weights(lora_rank: int) -> PolicyWeights:
    """Return what is published and kept of a policy whose adapters have this rank (0: none)."""
    return AdapterPolicy() if lora_rank else WholePolicy()
