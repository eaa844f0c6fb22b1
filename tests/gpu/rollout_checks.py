"""The rollout actor beside vLLM alone: the same prompts through a real server, and in a bare loop, in the same engine.

It needs a Redis server; without the libraries for one this check alone is not run.
"""

import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.vllm_engine import VllmEngine
from tests.gpu.figures import Figure, figure
from tests.gpu.meter import of_a_card

VIEWS = 2  # a group reads its preference in both orders
ROUNDS = 2
LIMIT_S = 90
SLICE_S = 0.02  # the last one is measured to its end


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What is sampled."""

    groups: int
    """At a time."""
    samples: int
    """Completions of a group."""
    prompt: int
    """Tokens of a prompt."""
    tokens: int
    """Of a completion at most."""


LOADS = {
    "cpu": Load(groups=4, samples=2, prompt=40, tokens=24),
    "cuda": Load(groups=64, samples=4, prompt=400, tokens=300),
}


def it_keeps_the_engine_busy(subject: Any) -> Iterator[Figure]:
    """Tokens a second, once each to warm up and then in turn."""
    load, bare, ours = LOADS[subject.device], list[float](), list[float]()
    for number in range(1 + ROUNDS):
        bare.append(bare_rate(subject.engine, load, seed=2 * number))
        ours.append(actor_rate(subject.engine, load, seed=2 * number + 1))
    alone, actor = statistics.median(bare[1:]), statistics.median(ours[1:])
    yield figure("vLLM alone", alone, "tokens/s")
    yield figure("rollout actor", actor, "tokens/s")
    yield of_a_card("rollout actor, of vLLM alone", actor / alone if subject.device == "cuda" else None, least=0.95)


def prompts_of(load: Load, seed: int) -> list[list[tuple[int, ...]]]:
    """Returns the prompts of each group, no two alike."""
    rng = random.Random(seed)

    def ids() -> tuple[int, ...]:
        return tuple(rng.randrange(5, 245) for _ in range(load.prompt))

    return [[ids() for _ in range(VIEWS)] for _ in range(load.groups)]


def bare_rate(engine: VllmEngine, load: Load, *, seed: int) -> float:
    """Returns the tokens a second of vLLM's own loop, in the engine's thread and with nothing of ours around it."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    def run() -> float:
        params = SamplingParams(
            n=load.samples // VIEWS,
            temperature=1.0,
            max_tokens=load.tokens,
            logprobs=0,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        inner, tokens, started = engine._engine, 0, time.perf_counter()
        for group, views in enumerate(prompts_of(load, seed)):
            for view, ids in enumerate(views):
                prompt = {"prompt_token_ids": list(ids), "cache_salt": f"bare {seed}"}
                inner.add_request(f"bare {seed} {group} {view}", prompt, params)
        while inner.has_unfinished_requests():
            ended = [output for output in inner.step() if output.finished]
            tokens += sum(len(completion.token_ids) for output in ended for completion in output.outputs)
        return tokens / (time.perf_counter() - started)

    return engine._call(run).result(LIMIT_S)


def actor_rate(engine: VllmEngine, load: Load, *, seed: int) -> float:
    """Returns the tokens a second of a rollout actor, from the first claim until the last group is handed on."""
    from actors.rollout import RolloutActor
    from buffer import streams
    from buffer.ledger import Cursor, Ledger, Offer
    from buffer.messages import Prompt, View, encode
    from buffer.server import EmbeddedServer
    from buffer.streams import Address
    from configs.load import load as load_config
    from tests.fakes import LocalWeights

    sampling = f"rollout.samples={load.samples}", f"rollout.max_new_tokens={load.tokens}", "rollout.temperature=1.0"
    config = load_config("tiny", [*sampling, f"rollout.max_groups={load.groups}", "model.context=1024"])
    offers = []
    for group, (first, second) in enumerate(prompts_of(load, seed)):
        views = [((0, 1), first), ((1, 0), second)]
        asked = tuple(View(permutation=shown, token_ids=ids, samples=load.samples // VIEWS) for shown, ids in views)
        prompt = Prompt(group=group, preference=f"p{group}", views=asked, issued_at=0)
        offers.append(Offer(group=group, payload=encode(prompt), after=Cursor(group=group + 1)))
    with tempfile.TemporaryDirectory(prefix="spct-gpu-", dir="/tmp") as folder, EmbeddedServer(Path(folder)) as server:
        address = Address(server.url, "gpu-check")
        client = streams.connect(address)
        streams.setup(client, address.run_id, meta_rm=False)
        worker = RolloutActor(config=config, name="r0", address=address, source=LocalWeights(), build=lambda: engine)
        worker.ready()
        before = engine.tokens
        assert Ledger(client, address.run_id).issue(offers, version=0, limit=1 << 20) == load.groups
        done, started = 0, time.perf_counter()
        while done < load.groups:
            assert time.perf_counter() - started < LIMIT_S, f"{done} of {load.groups} groups were handed on in {LIMIT_S} s"
            done += worker.work(SLICE_S).groups
        elapsed = time.perf_counter() - started
        worker._heartbeat.stop()
        client.close()
    return (engine.tokens - before) / elapsed
