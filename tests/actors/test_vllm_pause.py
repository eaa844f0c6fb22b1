"""Weights are changed while nothing is under way in vLLM: with asynchronous scheduling, as on GPUs, which vLLM's code for CPUs
switches off and these tests switch on. (A batch is then scheduled and computed before the tokens of the last one are read.)"""

import itertools
import os
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from actors.vllm_build import CPU_ENVIRONMENT, ENVIRONMENT, build_engine
from actors.vllm_engine import VllmEngine
from actors.vllm_weights import ModelUnsupported
from buffer.messages import Completion
from buffer.weights import seal
from tests.actors.reference_models import PROMPTS, TOLERANCE, noised, off, publish, request, settings
from tests.random_models import make

pytestmark = pytest.mark.slow

TEMPERATURE = 0.7


@dataclass
class Watched:
    """An engine, and what was seen of it."""

    folder: Path
    engine: VllmEngine
    built_by: set[int]
    """Threads."""
    stepped_by: set[int] = field(default_factory=set)
    at_load: list[tuple[bool, int]] = field(default_factory=list)
    """Whether the scheduler was paused when weights were loaded, and how many batches were under way."""


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    for name, value in (ENVIRONMENT | CPU_ENVIRONMENT).items():  # before the import of vLLM in `switch_on`
        os.environ.setdefault(name, value)
    folder, built_by = make(tmp_path_factory.mktemp("m"), "llama"), set[int]()

    def build_asynchronous(settings: Any) -> Any:
        built_by.add(threading.get_ident())
        with pytest.MonkeyPatch.context() as patch:
            switch_on(patch)
            return build_engine(settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("actors.vllm_engine.build_engine", build_asynchronous)
        made = Watched(folder=folder, engine=VllmEngine(settings(folder)), built_by=built_by)
    watch(made)
    yield made
    made.engine.close()


def switch_on(patch: pytest.MonkeyPatch) -> None:
    """Asynchronous scheduling, on CPU too."""
    from vllm.platforms.cpu import CpuPlatform

    of_cpu = CpuPlatform.check_and_update_config

    def but_asynchronous(config: Any) -> None:
        of_cpu(config)
        config.scheduler_config.async_scheduling = True

    patch.setattr(CpuPlatform, "check_and_update_config", staticmethod(but_asynchronous))


def watch(seen: Watched) -> None:
    inner, model, core = seen.engine._engine, seen.engine._model, seen.engine._core
    step, load = inner.step, model.load

    def watched_step() -> Any:
        seen.stepped_by.add(threading.get_ident())
        return step()

    def watched_load(weights: Any) -> None:
        seen.at_load.append((core.is_scheduler_paused(), len(core.batch_queue)))
        load(weights)

    inner.step, model.load = watched_step, watched_load  # type: ignore[method-assign]


def test_each_token_has_the_version_of_the_weights_that_computed_it(watched: Watched) -> None:
    engine, old = watched.engine, watched.engine.edition.version
    models = [noised(watched.folder, seed=seed, scale=0.3 if seed else 0.0) for seed in range(3)]
    if old:
        engine.load(publish(models[0], old := old + 1))
    for before, after in itertools.pairwise(models):
        running = engine.submit([request(p, samples=4, temperature=TEMPERATURE, tokens=190) for p in PROMPTS])
        wait_for_steps(engine, 5)
        engine.load(publish(after, old + 1))
        at_first_new = []
        for prompt, future in zip(PROMPTS, running, strict=True):
            for completion in future.result(timeout=240):
                of_old = completion.versions.count(old)
                assert set(completion.versions) <= {old, old + 1}
                assert off(before, prompt, completion, TEMPERATURE)[:of_old].max() < TOLERANCE
                if 0 < of_old < len(completion.versions):
                    at_first_new.append(float(off(before, prompt, completion, TEMPERATURE)[of_old]))
        assert len(at_first_new) >= 4
        assert statistics.median(at_first_new) > 100 * TOLERANCE, "the first token that is labelled new is a new one"
        old += 1


def wait_for_steps(engine: VllmEngine, count: int) -> None:
    least, deadline = engine.steps + count, time.monotonic() + 120
    while engine.steps < least:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_what_ends_while_the_engine_pauses_is_answered(watched: Watched) -> None:
    """The only token of a request is computed, and not read, when the weights come."""
    engine, old = watched.engine, watched.engine.edition.version
    gate, answer = threading.Event(), Future[tuple[Completion, ...]]()
    weights = publish(noised(watched.folder, seed=5), old + 1)

    def add_and_step() -> None:
        engine._add(request(PROMPTS[0], samples=1, tokens=1), answer)
        engine._step()
        assert not answer.done()

    engine._call(lambda: gate.wait(60))
    stepped = engine._call(add_and_step)
    loading = threading.Thread(target=engine.load, args=(weights,))
    loading.start()
    while engine._commands.qsize() < 2:
        time.sleep(0.001)
    gate.set()
    stepped.result(60)
    loading.join(60)
    ((version,),) = [completion.versions for completion in answer.result(60)]
    assert (version, engine.edition.version) == (old, old + 1)


def test_nothing_is_under_way_when_weights_are_loaded_and_it_goes_on_behind_them(watched: Watched) -> None:
    engine = watched.engine
    before = len(watched.at_load)
    running = engine.submit([request(p, samples=4, tokens=190) for p in PROMPTS])
    wait_for_steps(engine, 3)
    engine.load(publish(noised(watched.folder, seed=6), engine.edition.version + 1))
    assert watched.at_load[before:] == [(True, 0)]
    assert not engine._core.is_scheduler_paused()
    assert all(future.result(timeout=240) for future in running)


def test_a_load_that_fails_leaves_no_pause_behind(watched: Watched) -> None:
    engine = watched.engine
    nothing = seal(engine.edition.version + 1, {}, {})
    with pytest.raises(ModelUnsupported, match="found nothing"):
        engine.load(nothing)
    assert not engine._core.is_scheduler_paused()


def test_the_thread_that_builds_the_engine_steps_it(watched: Watched) -> None:
    watched.engine.submit([request(PROMPTS[0])])[0].result(timeout=120)
    assert watched.stepped_by == watched.built_by == {watched.engine._thread.ident}
