"""1,000 and 10,000 workers with 27B weights, by a model of what each part costs a group, and whether the model is right at 16.

    python -m tests.bench.fleet [--quick]

What the plumbing costs is measured here, at the size of a group that a 27B judge makes (8 judgements): processor time of the
Redis server for each stage and for a look that finds nothing, and of the driver, the reward actor and the learner's intake
(real code, one thread each). `tests/bench/fleet_model.py` plays a run with these costs. Engines and learner are assumed, not
measured (ASSUMED). They grow with the fleet, so what is shown is how far everything between them carries. Nor does the model
know of networks, of the fetch of weights beside the decoding, or of what dies.

- model: the model for 16 workers with the fake engines of tests/bench/scaling.py and costs measured at their small groups,
  against a real run of the same, with Ray, Redis and all actors.
- 1000, 10000: groups/s by the model, against the engines' own rate; the note names the part that was busiest.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from actors.polling import POLL_S, rest_s
from actors.reward import RewardActor
from buffer.edition import announced_edition
from buffer.ledger import Cursor
from buffer.messages import Completion, ExperienceGroup, Prompt, RolloutGroup, View, decode, encode
from buffer.server import EmbeddedServer
from buffer.streams import EXPERIENCE, PROMPTS, ROLLOUTS
from configs.load import load
from grm.preferences import Question
from launch.setup.prompt_source import prompt_source
from tests.bench import scaling
from tests.bench.figures import FLEETS
from tests.bench.fleet_model import Costs, Fleet, simulate
from tests.bench.rollout import Prompts, config_of
from tests.bench.side_by_side import Measured, main
from tests.bench.streams import Run
from tests.chaos.components import preferences

# Of a 27B judge: an engine of one node of 8 cards, 8 groups at a time, 8 judgements a group.
ASSUMED = {
    "places": 8,
    "group_s": 40.0,  # 1,000 tokens of a judgement at 25 tokens/s
    "sigma": 0.5,
    "max_staleness": 5,
    "pause_s": 54 / 25,  # 54 GB at the 25 GB/s of a PCIe 4 slot
}
STEP_SHARE = 0.8  # of the time in which the engines make a batch: the learner has as many ranks as it needs
LENGTHS = {"prompt": 2000, "completion": 1000}  # tokens
SMALL = {"prompt": 3, "completion": 4}  # of a group of the fake engines
FAKE_STEP_S = 0.005  # of the fake learner


@dataclass(frozen=True, slots=True)
class Measuring:
    """Costs a group, in seconds."""

    url: str
    count: int
    """Groups over which each is measured."""

    def costs(self, name: str, lengths: dict[str, int]) -> Costs:
        """Measure them all for groups of these lengths."""
        run = Run(self.url, name, **lengths)
        server = self._server_of(run)
        issue = server(lambda: run.issue(self.count))
        sample = server(lambda: self._drain(lambda: run.hand_on(PROMPTS, ROLLOUTS, 4, 0)))
        reward = server(lambda: self._drain(lambda: run.hand_on(ROLLOUTS, EXPERIENCE, 64, 0)))
        learn = server(lambda: run.learn(self.count))

        def look() -> None:
            for _ in range(self.count):
                announced_edition(run.client, name)
                run.consumers[PROMPTS].claim(4, block_s=0, workers=16)

        intake = own_s(self.count, lambda: decode(run.payloads[EXPERIENCE], ExperienceGroup))
        return Costs(
            issue_s=issue,
            sample_s=sample,
            reward_s=reward,
            learn_s=learn,
            poll_s=server(look),
            driver_s=driver_s(self.count, lengths["prompt"]),
            judging_s=self._judging_s(run, lengths),
            intake_s=intake,
        )

    def _server_of(self, run: Run) -> Callable[[Callable[[], object]], float]:
        def spent() -> float:
            used = run.client.info("cpu")
            return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])

        def measure(call: Callable[[], object]) -> float:
            before = spent()
            call()
            return (spent() - before) / self.count

        return measure

    def _drain(self, take: Callable[[], int]) -> None:
        while take():
            pass

    def _judging_s(self, run: Run, lengths: dict[str, int]) -> float:
        """Return the processor time of a real reward actor for a group, its calls of the server included."""
        config = load("tiny", ["data.train=[unused]", "data.heldout=[unused]"])
        actor = RewardActor(config=config, name="reward-0", address=run.address, preferences=preferences())
        run.payloads[ROLLOUTS] = rollout_payload(**lengths)
        run.issue(self.count)
        self._drain(lambda: run.hand_on(PROMPTS, ROLLOUTS, 16, 0))
        began, done = time.thread_time(), 0
        while done < 8 * self.count:
            done += actor.work(0.05).completions
        seconds = (time.thread_time() - began) / self.count
        actor._heartbeat.stop()
        return seconds


def rollout_payload(prompt: int, completion: int) -> bytes:
    """Return the message of a group that a reward actor can read, with so many tokens."""
    view = View(permutation=(0, 1), token_ids=tuple(range(7, 7 + prompt)), samples=8)
    asked = Prompt(group=0, preference="p0", views=(view,), issued_at=0)
    text = "word " * (completion * 3 // 4) + "Specific Criteria: brevity 70%\nAnalysis: fine.\nScores: \\boxed{9, 2}"
    sampled = Completion(
        token_ids=(9,) * completion, logprobs=(-0.5,) * completion, versions=(0,) * completion, text=text, finish="stop"
    )
    return encode(RolloutGroup(prompt=asked, completions=(sampled,) * 8))


def own_s(count: int, call: Callable[[], object]) -> float:
    """Return the processor time of a call in this thread."""
    began = time.thread_time()
    for _ in range(count):
        call()
    return (time.thread_time() - began) / count


def driver_s(count: int, tokens: int) -> float:
    """Return the driver's own time for a prompt of about so many tokens, rendered and tokenized as in a run."""
    wide = [f"{name}=8192" for name in ("model.context", "learner.micro_tokens", "meta_rm.micro_tokens")]
    config = load("tiny", [*wide, "data.train=[unused]", "data.heldout=[unused]", "rollout.orders=1"])
    tokenizer = Prompts(config_of("tiny", 8, 4)).tokenizer
    text = " ".join(f"It is {number}." for number in range(tokens // 8))
    questions = [Question(id=f"p{number}", query="Which one?", responses=(text, text)) for number in range(count)]
    source = prompt_source(config, questions, tokenizer)
    began = time.thread_time()
    taken = source.take(Cursor(), count)
    seconds = time.thread_time() - began
    return seconds * tokens / sum(len(draft.views[0].token_ids) for draft, _ in taken)


def fleet_of(workers: int) -> Fleet:
    """Return a fleet whose credit fills its engines three times, and whose learner keeps up with them."""
    batch = workers * ASSUMED["places"] // 2
    step_s = STEP_SHARE * batch * ASSUMED["group_s"] / (workers * ASSUMED["places"])
    return Fleet(workers=workers, batch=int(batch), step_s=step_s, poll_every_s=POLL_S + rest_s(workers), **ASSUMED)  # type: ignore[arg-type]


def fakes_of(workers: int) -> Fleet:
    """Return the run of tests/bench/scaling.py."""
    config = scaling.config(workers)
    return Fleet(
        workers=workers,
        places=scaling.PLACES,
        group_s=scaling.GROUP_S,
        sigma=0.0,
        batch=config.grpo.batch_groups,
        max_staleness=config.grpo.max_staleness,
        step_s=FAKE_STEP_S,
        pause_s=0.0,
        poll_every_s=POLL_S,
    )


def measure(quick: bool) -> list[Measured]:
    count, workers = (64, 2) if quick else (512, 16)
    with tempfile.TemporaryDirectory(prefix="spct-bench-") as place, EmbeddedServer(Path(place)) as server:
        measuring = Measuring(server.url, count)
        small, large = measuring.costs("small", SMALL), measuring.costs("large", LENGTHS)
    rates, _ = scaling.rates((workers,), seconds=2.0 if quick else 15.0, settle_s=1.0 if quick else 4.0)
    modelled = simulate(fakes_of(workers), small, steps=60)
    found = [
        Measured(
            figure="fleet model",
            unit="groups/s",
            ours=(modelled.rate,),
            against=tuple(rates[workers]),
            note=modelled.bound,
        )
    ]
    for size in FLEETS[:1] if quick else FLEETS:
        fleet = fleet_of(size)
        played = simulate(fleet, large, steps=6)
        found.append(
            Measured(figure=f"fleet {size}", unit="groups/s", ours=(played.rate,), against=(fleet.own_rate,), note=played.bound)
        )
    return found


if __name__ == "__main__":
    main(measure, __doc__)
