"""The parts of a server's scores that are read: vLLM's `/classify` and `/pooling`.

/classify   {"data": [{"probs": [1.25], ...}], "usage": {"prompt_tokens": 9}}
/pooling    {"data": [{"data": [1.25], ...}], "usage": {"prompt_tokens": 9}}
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field, model_validator

from launch.judging.openai_shapes import FIRST_ERROR, Usage

Number = Annotated[float, Field(allow_inf_nan=False)]


class ScoredText(BaseModel):
    """What the server says of one text."""

    numbers: Annotated[list[Number], FIRST_ERROR]
    """One of a scalar reward model; others have one for each class, or for each token."""

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, fields: Any) -> Any:
        if not isinstance(fields, Mapping):
            return fields
        told = fields.get("probs", fields.get("data"))
        if isinstance(told, list) and told and all(isinstance(each, list) for each in told):
            told = [number for each in told for number in each]
        return {"numbers": told}


class ScoreList(BaseModel):
    """The part of the answer that is read."""

    data: Annotated[list[ScoredText], FIRST_ERROR, Field(min_length=1, max_length=1)]
    """Of the one text that was asked about."""
    usage: Usage | None = None
    """Missing where the server does not count."""
