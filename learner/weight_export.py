"""From a learner's weights to those that rollout actors load."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from buffer.weights import Probe, PublishedWeights, seal
from learner import adapters

PROBE_TOKENS = 24  # as few as give a mean; in every context
PROBE_STRIDE = 7919  # a prime: the tokens of a probe are spread over the vocabulary


def to_published_weights(
    version: int,
    state: Mapping[str, Tensor],
    model: PreTrainedModel,
    *,
    incarnation: int = 0,
    probe: Probe | None = None,
) -> PublishedWeights:
    """Return a policy version, ready for a `WeightSink`, under the names that a checkpoint of the model has.

    Args:
        version: of the policy.
        state: whole weights on the CPU that are not written to any more (`Engine.full_state`): the arrays are views of
            them. A tied `lm_head.weight` is not among them; it is tied again when they are loaded.
        model: whose weights they are.
        incarnation: of the learner.
        probe: what an engine must compute with them.
    """
    arrays, dtypes = _arrays(checkpoint_layout(model, state))
    return seal(version, arrays, dtypes, incarnation=incarnation, probe=probe)


def to_published_adapters(
    version: int,
    state: Mapping[str, Tensor],
    model: PreTrainedModel,
    *,
    incarnation: int = 0,
    probe: Probe | None = None,
) -> PublishedWeights:
    """Return the adapters of a policy version, ready for a `WeightSink`, under the names that a file of peft's has.

    Args:
        version: of the policy.
        state: as for `to_published_weights`; what is no adapter is left out.
        model: which has the adapters.
        incarnation: of the learner.
        probe: what an engine must compute with them.
    """
    arrays, dtypes = _arrays(adapters.file_state(state))
    return seal(version, arrays, dtypes, incarnation=incarnation, probe=probe, adapters=adapters.shape(model))


def checkpoint_layout(model: PreTrainedModel, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights under the names and in the shapes that a saved folder of the model has, which vLLM reads.

    transformers renames and fuses weights as it loads them: all experts of a layer are one parameter, for instance.
    """
    return dict(revert_weight_conversion(model, dict(state)))


def _arrays(tensors: Mapping[str, Tensor]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return arrays and dtypes by name, as `seal` takes them."""
    arrays = {name: as_array(tensor) for name, tensor in tensors.items()}
    return arrays, {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in tensors.items()}


def probe_token_ids(vocabulary: int) -> tuple[int, ...]:
    """Return the tokens of a probe, for a model with so many token ids."""
    return tuple(PROBE_STRIDE * (1 + i) % vocabulary for i in range(PROBE_TOKENS))


def as_array(tensor: Tensor) -> np.ndarray:
    """Return a view of `tensor`; bfloat16, which numpy does not have, as the int16 of its bits."""
    return tensor.view(torch.int16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()
