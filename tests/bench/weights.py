"""New weights on their way from an optimiser step into a running engine.

    python -m tests.bench.weights [--quick]

A real GRPO learner (this process), Ray's object store with the weight board, Redis, and a rollout actor that decodes groups of
the tiny world all the while; each has a core. A round: memcpy of as many bytes as the weights have, then one step of the
learner on two groups of random experience. The engine notes begin, end and version of each of its steps.

- pause: from the end of the last step under the old weights to the begin of the first under the new ones; divided by memcpy.
- first token: from the end of the optimiser step (gathering, sealing and publishing lie behind it) to the end of the engine's
  first step under the new weights, which samples a token of each running sequence; divided by memcpy.
- publishing: seconds that the learner's own step spends publishing.
"""

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import ray

from actors.rollout import RolloutActor
from buffer import streams
from buffer.ledger import Ledger, Offer
from buffer.messages import encode
from configs.load import load
from configs.schema import Config
from launch.cluster.ray_cluster import Cluster
from launch.cluster.weight_board import RayWeights, WeightBoard
from launch.setup.model_files import resolve
from learner.grpo import GRPOLearner
from tests.bench.engine_steps import NotingEngine, pause_and_first
from tests.bench.figures import PRESETS
from tests.bench.grpo_step import batch
from tests.bench.rollout import Prompts
from tests.bench.side_by_side import Measured, is_installed, main

BEFORE_S = {"tiny": 1.0, "smollm2": 5.0}  # of decoding, before the learner steps
AFTER_S = {"tiny": 2.0, "smollm2": 15.0}  # of decoding, from the learner's publication on
LIMIT_S = 300.0
ROUNDS = {"tiny": 7, "smollm2": 3}
BATCH = 2  # groups of a step
GROUPS = {"tiny": 200, "smollm2": 16}  # that the actor is given in a round: more than it can decode


class Round(NamedTuple):
    """Seconds."""

    memcpy: float
    pause: float
    first_token: float
    publish: float


def config_of(model: str) -> Config:
    """Return a run whose learner takes any group, however old."""
    options = [
        "data.train=[tiny:1:4000]",
        "data.heldout=[tinyheld:2:8:2]",
        "meta_rm.enabled=false",
        "learner.checkpoint_every=1000",
    ]
    return load(PRESETS[model], [*options, f"grpo.batch_groups={BATCH}", "grpo.steps=1000", "grpo.max_staleness=10000"])


def memcpy_s(count: int) -> float:
    """Return the seconds of copying so many bytes between pages that have been touched."""
    source, target = np.ones(count, np.uint8), np.zeros(count, np.uint8)
    began = time.perf_counter()
    np.copyto(target, source)
    return time.perf_counter() - began


def actor_and_learner(config: Config, prompts: Prompts, cluster: Cluster, folder: Path) -> tuple[Any, GRPOLearner]:
    """Start a rollout actor under Ray, and a learner here, with a weight board between them."""
    board = cluster.remote(WeightBoard, ray_restarts=True)
    at = {role: cluster.address(role=role) for role in ("rollout", "learner")}
    weights = {role: RayWeights(board, address, LIMIT_S) for role, address in at.items()}
    build = partial(NotingEngine, prompts.settings(config))
    ours = {"config": config, "name": "rollout-0", "address": at["rollout"], "source": weights["rollout"], "build": build}
    actor = cluster.remote(RolloutActor, **ours)
    place = {"rank": 0, "world": 1, "model_path": prompts.model, "checkpoints": folder / "policy"}
    learner = GRPOLearner(config, **place, address=at["learner"], sink=weights["learner"])
    learner.start(*learner.rendezvous())
    ray.get(actor.ready.remote(), timeout=LIMIT_S)
    return actor, learner


def measured_rounds(model: str, cluster: Cluster, folder: Path, rounds: int) -> list[Round]:
    """Let the learner take steps while the actor decodes. The first round does not count."""
    config, address = config_of(model), cluster.address()
    prompts, client = Prompts(config), streams.connect(address)
    streams.setup(client, address.run_id, meta_rm=False)
    actor, learner = actor_and_learner(config, prompts, cluster, folder)
    ledger, experience = Ledger(client, address.run_id), streams.key(address.run_id, streams.EXPERIENCE)
    bytes_of_it = sum(weight.numel() * weight.element_size() for weight in learner._model.parameters())
    apply, stepped = learner._update.apply, list[float]()

    def stamped(*args: Any, **options: Any) -> Any:
        result = apply(*args, **options)
        stepped.append(time.monotonic())
        return result

    learner._update.apply = stamped  # type: ignore[method-assign]
    scored, found = batch(BATCH * (rounds + 1), samples=4, prompt=20, completion=20), list[Round]()
    for number in range(rounds + 1):
        offers = [Offer(group=p.group, payload=encode(p), after=after) for p, after in prompts.next(GROUPS[model])]
        assert ledger.issue(offers, version=ledger.version(), limit=1 << 30) == len(offers)
        for group in scored[BATCH * number : BATCH * (number + 1)]:
            client.xadd(experience, {"g": group.group, "p": encode(group)})
        copied = memcpy_s(bytes_of_it)
        ray.get(actor.work.remote(BEFORE_S[model]), timeout=LIMIT_S)
        decoding = [actor.work.remote(AFTER_S[model]) for _ in range(2)]
        report = learner.step(LIMIT_S)
        ray.get(decoding, timeout=LIMIT_S)
        noted = ray.get(actor.__ray_call__.remote(lambda actor: actor._engine.noted), timeout=LIMIT_S)
        pause, first = pause_and_first(noted, report.version, stepped[-1])
        found.append(Round(copied, pause, first, report.metrics["time/publish_s"]))
    learner.close()
    return found[1:]


def of_model(model: str, rounds: int) -> list[Measured]:
    config = config_of(model)
    with (
        tempfile.TemporaryDirectory(prefix="spct-bench-") as place,
        Cluster(config, run_id="weights", folder=Path(place), model=resolve(config.model.path), gpus=0) as cluster,
    ):
        found = measured_rounds(model, cluster, Path(place), rounds)
    copies, pauses, firsts, publishing = zip(*found, strict=True)
    return [
        Measured(figure=f"weights {model} pause", unit="s", ours=pauses, against=copies),
        Measured(figure=f"weights {model} first token", unit="s", ours=firsts, against=copies),
        Measured(figure=f"weights {model} publishing", unit="s", ours=publishing),
    ]


def measure(quick: bool) -> list[Measured]:
    found = list[Measured]()
    for model in ["tiny"] if quick else PRESETS:
        if is_installed(PRESETS[model]):
            found += of_model(model, 1 if quick else ROUNDS[model])
    return found


if __name__ == "__main__":
    main(measure, __doc__)
