"""A rollout actor against bare vLLM on the same prompts.

    python -m tests.bench.rollout [--quick]

Three processes take turns, each with an engine in it, stepped by one thread: the layout of a run. The requests of a round are
the next groups of the tiny world, never seen before, so a group shares the prefix cache within itself alone. The value is
tokens/s from the first submission to the last completion; sequences that end early are replaced while there are any.

- actor: `RolloutActor` on a real Redis server: claims prompts, decodes with `VllmEngine`, hands groups on.
- same: bare `LLMEngine` as `build_engine` makes it: plain weights, which can be changed in place, and a log-prob a token.
- packed: the engine that vLLM makes when it is left alone: on CPU its weights are packed for oneDNN, and there are no
  log-probs. This is what somebody takes who only generates.

No sampling has a seed, as in a run at η > 0, so lengths differ a little from side to side; the values are tokens per second.
"""

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from actors.generator import Request
from actors.running_group import requests
from actors.vllm_build import VllmSettings
from buffer.ledger import Cursor, Ledger, Offer
from buffer.messages import Prompt, encode
from buffer.server import EmbeddedServer
from buffer.streams import Address, connect, setup
from configs.load import load
from configs.schema import Config
from grm.sources import load as load_preferences
from launch.setup.model_files import resolve
from launch.setup.preflight import policy_tokenizer
from launch.setup.prompt_source import prompt_source
from tests.bench.side_by_side import Contender, Measured, is_installed, main, turns
from tests.fakes import LocalWeights

# preset, completions of a group, groups in the engine at a time, groups of a round
CASES = {
    "tiny-8x32": ("tiny", 8, 32, 96),
    "tiny-4x4": ("tiny", 4, 4, 24),
    "smollm2-4x8": ("smollm2-135m", 4, 8, 8),
}
QUICK = {"tiny-8x32": ("tiny", 2, 2, 4)}


def config_of(preset: str, samples: int, places: int) -> Config:
    """Return the preset with the tiny world for data."""
    world = ["data.train=[tiny:1:4000]", "data.heldout=[tinyheld:2:8:2]", "meta_rm.batch=8"]
    return load(preset, [*world, f"rollout.samples={samples}", f"rollout.max_groups={places}"])


class Prompts:
    """The prompts of the world under a config, always the next ones."""

    def __init__(self, config: Config) -> None:
        self.model = resolve(config.model.path)
        self.tokenizer = policy_tokenizer(config, self.model)
        preferences = [p for name in config.data.train for p in load_preferences(name).preferences]
        self._source = prompt_source(config, [p.question for p in preferences], self.tokenizer)
        self.cursor = Cursor()

    def next(self, count: int) -> list[tuple[Prompt, Cursor]]:
        """Return prompts, each with the cursor behind it."""
        taken = []
        for draft, after in self._source.take(self.cursor, count):
            prompt = Prompt(group=after.group - 1, preference=draft.preference, views=draft.views, issued_at=0)
            taken.append((prompt, after))
        self.cursor = taken[-1][1]
        return taken

    def settings(self, config: Config) -> VllmSettings:
        """Return how a run of this config builds an engine."""
        return VllmSettings(
            model_path=self.model,
            dtype=config.dtype,
            context=config.model.context,
            sequences=config.rollout.max_groups * config.rollout.samples,
            kv_cache_bytes=config.kv_cache_bytes,
            gpu_memory=config.rollout.gpu_memory,
            seed=1,
            device="cpu",
            end_token=self.tokenizer.end_token,
        )


def build_actor(address: Address, preset: str, samples: int, places: int, count: int) -> Callable[[], float]:
    """Build an actor on a run of its own; each call lets it hand on `count` groups and returns tokens/s."""
    from actors.rollout import RolloutActor
    from actors.vllm_engine import VllmEngine

    config = config_of(preset, samples, places)
    prompts = Prompts(config)
    client = connect(address)
    setup(client, address.run_id, meta_rm=False)
    ledger, build = Ledger(client, address.run_id), partial(VllmEngine, prompts.settings(config))
    actor = RolloutActor(config=config, name="rollout-0", address=address, source=LocalWeights(), build=build)
    actor.ready()

    def run() -> float:
        offers = [Offer(group=p.group, payload=encode(p), after=after) for p, after in prompts.next(count)]
        began, tokens, groups = time.perf_counter(), 0, 0
        assert ledger.issue(offers, version=0, limit=1 << 30) == count
        while groups < count:
            report = actor.work(0.1)
            tokens, groups = tokens + report.tokens, groups + report.groups
        return tokens / (time.perf_counter() - began)

    return run


def build_bare(packed: bool, preset: str, samples: int, places: int, count: int) -> Callable[[], float]:
    """Build a bare engine; each call lets it complete `count` groups and returns tokens/s."""
    config = config_of(preset, samples, places)
    prompts, numbers = Prompts(config), iter(range(1 << 60))
    settings = prompts.settings(config)
    engine = bare_engine(settings, packed=packed)

    def run() -> float:
        rollout = config.rollout
        asked = [
            request
            for prompt, _ in prompts.next(count)
            for request in requests(prompt, temperature=rollout.temperature, max_new_tokens=rollout.max_new_tokens)
        ]
        began, tokens = time.perf_counter(), 0
        for request in asked:
            params = sampling(request, logprobs=None if packed else 0, end_token=settings.end_token)
            engine.add_request(str(next(numbers)), {"prompt_token_ids": [*request.token_ids]}, params)
        while engine.has_unfinished_requests():
            for output in engine.step():
                tokens += sum(len(each.token_ids) for each in output.outputs) if output.finished else 0
        return tokens / (time.perf_counter() - began)

    return run


def bare_engine(settings: VllmSettings, *, packed: bool) -> Any:
    """Build the engine of a run, without what is ours around it. In a process of its own where weights are packed."""
    from actors import vllm_build

    if packed:
        vllm_build.keep_weights = lambda: None  # type: ignore[attr-defined]
    return vllm_build.build_engine(settings)


def sampling(request: Request, *, logprobs: int | None, end_token: int | None) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        n=request.samples,
        temperature=request.temperature,
        max_tokens=request.max_new_tokens,
        logprobs=logprobs,
        stop_token_ids=[] if end_token is None else [end_token],
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def measure(quick: bool) -> list[Measured]:
    found = list[Measured]()
    with tempfile.TemporaryDirectory(prefix="spct-bench-") as folder, EmbeddedServer(Path(folder)) as server:
        for case, (preset, *shape) in (QUICK if quick else CASES).items():
            if not is_installed(preset):
                continue
            builds: dict[str, Callable[[], Callable[[], float]]] = {
                "actor": partial(build_actor, Address(server.url, case), preset, *shape),
                "same": partial(build_bare, False, preset, *shape),
                "packed": partial(build_bare, True, preset, *shape),
            }
            with ExitStack() as stack:
                contenders = {name: stack.enter_context(Contender(name, build)) for name, build in builds.items()}
                rates = turns(1 if quick else 5 if preset == "tiny" else 2, contenders)
            found += [
                Measured(
                    figure=f"rollout {case} {other}", unit="tokens/s", ours=tuple(rates["actor"]), against=tuple(rates[other])
                )
                for other in ("same", "packed")
            ]
    return found


if __name__ == "__main__":
    main(measure, __doc__)
