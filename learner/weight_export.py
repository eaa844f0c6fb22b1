"""From a learner's weights to those that rollout actors load."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from buffer.weights import PublishedWeights, seal


def to_published_weights(version: int, state: Mapping[str, Tensor], *, incarnation: int = 0) -> PublishedWeights:
    """Return a policy version, ready for a `WeightSink`, under the names of the Hugging Face model.

    Args:
        version: of the policy.
        state: whole weights on the CPU that are not written to any more (`Engine.full_state`): the arrays are views of
            them. A tied `lm_head.weight` is not among them; it is tied again when they are loaded.
        incarnation: of the learner.
    """
    arrays = {name: as_array(tensor) for name, tensor in state.items()}
    dtypes = {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in state.items()}
    return seal(version, arrays, dtypes, incarnation=incarnation)


def as_array(tensor: Tensor) -> np.ndarray:
    """Return a view of `tensor`; bfloat16, which numpy does not have, as the int16 of its bits."""
    return tensor.view(torch.int16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()
