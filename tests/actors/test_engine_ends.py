"""Where the vLLM engine ends a completion."""

from dataclasses import replace
from pathlib import Path

import pytest

from actors.vllm_engine import VllmEngine
from buffer.messages import Completion
from tests.actors.test_vllm_engine import request, settings
from tests.random_models import make

pytestmark = pytest.mark.slow

PROMPT = tuple(range(5, 60))


def answer(engine: VllmEngine, prompt: tuple[int, ...]) -> Completion:
    (done,) = engine.submit([request(prompt, samples=1, temperature=1.0, tokens=60, seed=3)])
    (completion,) = done.result(timeout=120)
    return completion


def test_a_completion_ends_where_it_is_told(tmp_path: Path) -> None:
    """Also where the model's files name another end; the end is a token of the completion and none of its text."""
    folder = make(tmp_path / "model", "llama")
    free = VllmEngine(settings(folder))
    whole = answer(free, PROMPT)
    end = whole.token_ids[10]
    bound = VllmEngine(replace(settings(folder), end_token=end))
    first = whole.token_ids.index(end)
    told = answer(bound, PROMPT)
    assert told.token_ids == whole.token_ids[: first + 1]
    assert (told.finish, len(told.logprobs), len(told.versions)) == ("stop", first + 1, first + 1)
