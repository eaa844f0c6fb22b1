"""What asynchrony gives: η = 1 against η = 0, against the time that no schedule can beat, and that none beats which keeps η.

    python -m tests.bench.asynchrony [--quick]

- Injected: 8 rollout actors, the reward actor and the learner's intake are real, on a real server, as threads of one process.
  Fake: the engines (2 places each; a group takes a log-normal time that depends on its number alone, mean MEAN_S, log σ 0.5, 1
  or 1.5) and the gradient (TRAIN_S of sleep). Every fifth group has no gradient. The bound for a step is max(generation,
  training): generation is the sum of the lengths of the groups settled in a step, divided by the places of all engines. The
  law is `tests/bench/ideal_schedule.py` at η = 1: the same lengths, rules and steps, and nothing else takes time. A round is
  η = 0 and η = 1 in turn; the first STEPS / 5 steps do not count.
- Real: whole runs of `tiny` without cold start and evaluation at η = 0 and η = 1, in turn; mean seconds from one version to the
  next (a median would mislead: at η = 1 quick and slow steps alternate). Not in the quick form.
"""

import itertools
import random
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

from actors.generator import Request
from actors.reward import RewardActor
from actors.rollout import RolloutActor
from buffer import streams
from buffer.ledger import Ledger
from buffer.server import EmbeddedServer
from buffer.streams import Address
from buffer.weights import Edition
from configs.load import load
from configs.schema import Config
from launch.driver.issue import issue
from learner.grpo_intake import Intake
from tests.bench.figures import SIGMAS
from tests.bench.ideal_schedule import ideal_rate
from tests.bench.side_by_side import Measured, main, repeated, turns
from tests.chaos.components import DULL, VIEWS, VOCABULARY, judgement, preferences, sealed, take
from tests.fakes import LocalWeights, TimedEngine
from tests.launch import whole_run

WORKERS, PLACES, GROUPS = 8, 2, 16  # engines, groups in one at a time, groups of a step
MEAN_S, TRAIN_S, STEPS = 0.5, 0.625, 15  # generation and training take as long: what asynchrony can hide is largest
LIMIT_S = 60.0  # for a batch
SKIPPED = 3  # first steps of a real run, during which caches are cold and the pipeline fills


def length_s(group: int, sigma: float, mean_s: float) -> float:
    """Return how long a group takes in an engine: log-normal with this mean."""
    return random.Random(f"length/{group}").lognormvariate(-sigma * sigma / 2, sigma) * mean_s


class SleepingLearner:
    """The GRPO learner's intake, with a sleep for the gradient."""

    def __init__(self, config: Config, address: Address, sink: LocalWeights, train_s: float) -> None:
        self._intake, self._sink, self._train_s = Intake(config, address, VOCABULARY), sink, train_s
        self._incarnation, self.version = self._intake.recover(0, ())
        sink.publish(sealed(Edition(self._incarnation, 0)))

    def step(self) -> None:
        """Train one batch. TimeoutError if there is none within LIMIT_S."""
        batch = self._intake.wait(self.version, LIMIT_S)
        if not batch:
            raise TimeoutError(f"the learner waited {LIMIT_S:.0f} s for a batch at version {self.version}")
        ended = time.monotonic() + self._train_s
        while (left := ended - time.monotonic()) > 0:
            time.sleep(min(left, 0.05))
            self._intake.take_in(self.version)
        self.version += 1
        self._sink.publish(sealed(Edition(self._incarnation, self.version)))
        self._intake.trained(self.version, batch)
        self._intake.saved(self.version, self._intake.unacknowledged)


def injected(
    server: EmbeddedServer, name: str, *, eta: int, sigma: float, scale: float, steps: int
) -> tuple[float, float, float]:
    """Run the loop for `steps` versions. Return steps/s, those of the bound, and those of the ideal schedule."""
    config = load(
        "tiny",
        [
            f"grpo.batch_groups={GROUPS}",
            f"grpo.max_staleness={eta}",
            f"rollout.max_groups={PLACES}",
            f"rollout.workers={WORKERS}",
            "rollout.samples=2",
            "meta_rm.enabled=false",
        ],
    )
    address, mean_s, train_s = Address(server.url, name), MEAN_S * scale, TRAIN_S * scale
    client = streams.connect(address)
    streams.setup(client, name, meta_rm=False)
    ledger, weights = Ledger(client, name), LocalWeights()

    def group_s(request: Request) -> float:
        return length_s(request.token_ids[1], sigma, mean_s)

    learner = SleepingLearner(config, address, weights, train_s)
    engines = [TimedEngine(judgement, seconds=group_s, places=PLACES * VIEWS) for _ in range(WORKERS)]
    common = {"config": config, "address": address}
    actors = [
        RolloutActor(**common, name=f"rollout-{number}", source=weights, build=partial(lambda engine: engine, engine))
        for number, engine in enumerate(engines)
    ]
    reward = RewardActor(**common, name="reward-0", preferences=preferences())
    for actor in actors:
        actor.ready()
    work = [partial(reward.work, 0.5), *(partial(actor.work, 0.5) for actor in actors)]
    with repeated(*work), repeated(partial(issue, ledger, config, take), pause_s=0.005):
        while learner.version < steps // 5:
            learner.step()
        began, settled, first = time.monotonic(), _settled(ledger), ledger.cursor().group
        while learner.version < steps:
            learner.step()
        seconds, settled = (time.monotonic() - began) / (steps - steps // 5), _settled(ledger) - settled
    for actor in actors:
        actor.close()
    reward._heartbeat.stop()
    lengths = [length_s(group, sigma, mean_s) for group in range(first, ledger.cursor().group)]
    generation = settled / (steps - steps // 5) * statistics.fmean(lengths) / (WORKERS * PLACES)
    ideal = ideal_rate(
        length_s=partial(length_s, sigma=sigma, mean_s=mean_s),
        trainable=lambda group: group % DULL != 0,
        places=WORKERS * PLACES,
        batch=GROUPS,
        eta=eta,
        train_s=train_s,
        steps=steps,
        skipped=steps // 5,
    )
    return 1 / seconds, 1 / max(generation, train_s), ideal


def _settled(ledger: Ledger) -> int:
    outcomes = ledger.outcomes()
    return outcomes["trained"] + outcomes["filtered"]


def real(folder: Path, *, eta: int, steps: int) -> float:
    """Run `tiny`, and return its steps/s."""
    name = f"eta{eta}-{len(list(folder.iterdir()))}"
    options = ["eval.every=0", "data.heldout_limit=8", "cold_start.enabled=false", "eval.votes=[]"]
    ended = whole_run.run(folder, name, f"grpo.max_staleness={eta}", f"grpo.steps={steps}", *options)
    if ended.status:
        raise RuntimeError(f"the run at η = {eta} failed:\n{ended.output}")
    return 1 / statistics.fmean(ended.series("time/step_s")[SKIPPED:])


def measure(quick: bool) -> list[Measured]:
    found, number = list[Measured](), itertools.count()
    with tempfile.TemporaryDirectory(prefix="spct-bench-") as place, EmbeddedServer(Path(place) / "redis") as server:
        for sigma in SIGMAS[:1] if quick else SIGMAS:

            def run(eta: int, sigma: float = sigma) -> tuple[float, float, float]:
                scale, steps = (0.05, 10) if quick else (1.0, STEPS)
                return injected(server, f"run-{next(number)}", eta=eta, sigma=sigma, scale=scale, steps=steps)

            values = turns(1, {"sync": partial(run, 0), "async": partial(run, 1)}, warm_up=0)  # repeated, they agree to 1 %
            rates, bounds, ideals = zip(*values["async"], strict=True)
            synchronous = tuple(rate for rate, _, _ in values["sync"])
            found += [
                Measured(figure=f"asynchrony {sigma:g} bound", unit="steps/s", ours=rates, against=bounds),
                Measured(figure=f"asynchrony {sigma:g} law", unit="steps/s", ours=rates, against=ideals),
                Measured(figure=f"asynchrony {sigma:g} sync", unit="steps/s", ours=rates, against=synchronous),
            ]
        if not quick:
            runs = Path(place) / "runs"
            runs.mkdir()
            pair = {"sync": partial(real, runs, eta=0, steps=20), "async": partial(real, runs, eta=1, steps=20)}
            values = turns(2, pair, warm_up=0)
            found.append(
                Measured(figure="asynchrony real", unit="steps/s", ours=tuple(values["async"]), against=tuple(values["sync"]))
            )
    return found


if __name__ == "__main__":
    main(measure, __doc__)
