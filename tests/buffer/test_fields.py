"""Fields on the wire: packers refuse what no unpacker would take."""

import dataclasses
import math

import pytest

from buffer.messages import CodecError, RolloutGroup, encode
from tests.buffer.test_messages import COMPLETION, PROMPT


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"token_ids": (1, -2)}, "token_ids"),
        ({"token_ids": (1, 2**31)}, "token_ids"),
        ({"token_ids": (1, 2.5)}, "token_ids"),
        ({"token_ids": [1, 2]}, "token_ids"),
        ({"preference": "lone \ud800 surrogate"}, "preference"),
        ({"group": -1}, "group"),
        ({"group": True}, "group"),
    ],
)
def test_encode_refuses_what_no_reader_would_take(change: dict[str, object], named: str) -> None:
    with pytest.raises(CodecError, match=named):
        encode(dataclasses.replace(PROMPT, **change))


@pytest.mark.parametrize("logprobs", [(math.nan, 0.0, 0.0), (-math.inf, 0.0, 0.0), ("a", 0.0, 0.0)])
def test_encode_refuses_log_probs_that_are_no_numbers(logprobs: tuple[float, ...]) -> None:
    broken = dataclasses.replace(COMPLETION, logprobs=logprobs)
    with pytest.raises(CodecError, match=r"completions\[1\].logprobs"):
        encode(RolloutGroup(prompt=PROMPT, completions=(COMPLETION, broken)))
