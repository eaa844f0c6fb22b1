"""Where the vLLM engine ends a completion."""

import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from actors.vllm_engine import VllmEngine
from buffer.messages import Completion
from tests.actors.reference_models import request, settings
from tests.random_models import make

pytestmark = pytest.mark.slow

PROMPT = tuple(range(5, 60))


@pytest.fixture
def engines() -> Iterator[list[VllmEngine]]:
    """Of a test, freed in the end: with the last one goes vLLM's process group, and tests of the learners make their own."""
    alive: list[VllmEngine] = []
    yield alive
    while alive:
        alive.pop().close()
    gc.collect()


def answer(engine: VllmEngine, prompt: tuple[int, ...]) -> Completion:
    (done,) = engine.submit([request(prompt, samples=1, temperature=1.0, tokens=60, seed=3)])
    (completion,) = done.result(timeout=120)
    return completion


def test_a_completion_ends_where_it_is_told(tmp_path: Path, engines: list[VllmEngine]) -> None:
    """Also where the model's files name another end; the end is a token of the completion and none of its text."""
    folder = make(tmp_path / "model", "llama")
    engines.append(VllmEngine(settings(folder)))
    whole = answer(engines[0], PROMPT)
    end = whole.token_ids[10]
    engines.append(VllmEngine(replace(settings(folder), end_token=end)))
    first = whole.token_ids.index(end)
    told = answer(engines[1], PROMPT)
    assert told.token_ids == whole.token_ids[: first + 1]
    assert (told.finish, len(told.logprobs), len(told.versions)) == ("stop", first + 1, first + 1)
