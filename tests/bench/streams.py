"""The three streams against the server that they stand on.

    python -m tests.bench.streams [--quick]

- rate: one process takes groups through prompts, rollouts and experience as the driver, a rollout actor, the reward actor and
  the GRPO learner do: issue by 64, claim by 16 or 64, hand off one by one, advance by 8, acknowledge at the end. A prompt has
  300 tokens, a group in the other two streams 20 kB; the payloads are encoded once, so the codec is not measured. Against it:
  three plain XADDs of the same payloads for each group, one call after another on a connection of the same kind.
- p99: groups are issued one at a time, 100 a second, while three threads claim and hand on; the time from before the issue
  to the learner's claim. A thread stands for each process, so they share one interpreter lock.
- memory: growth of the server's `used_memory` by groups that wait for the learner, divided by their payload.
"""

import tempfile
import time
from pathlib import Path

from buffer import streams
from buffer.ledger import Cursor, Ledger, Offer
from buffer.messages import Prompt, View, encode
from buffer.server import EmbeddedServer
from buffer.streams import EXPERIENCE, PROMPTS, READERS, ROLLOUTS, Address, Consumer
from tests.bench.grpo_step import batch
from tests.bench.side_by_side import Measured, main, repeated, turns

RATE = 100  # groups a second
STEP = 8  # groups


def payloads(prompt: int = 300, completion: int = 280) -> dict[str, bytes]:
    """Return the message of one group in each stream, with so many tokens in its prompt and each of its 8 completions."""
    scored = batch(1, samples=8, prompt=prompt, completion=completion)[0]
    views = (View(permutation=(0, 1), token_ids=scored.prompt_ids[0], samples=8),)
    asked = Prompt(group=0, preference="p0", views=views, issued_at=0)
    return {PROMPTS: encode(asked), ROLLOUTS: encode(scored), EXPERIENCE: encode(scored)}


class Run:
    """A run of its own on the server, with a consumer for each role."""

    def __init__(self, url: str, name: str, **lengths: int) -> None:
        self.address = Address(url, name)
        self.client = streams.connect(self.address)
        streams.setup(self.client, name, meta_rm=False)
        self.ledger, self.payloads = Ledger(self.client, name), payloads(**lengths)
        self.ledger.recover(0, [], {})
        self.consumers = {stream: self._consumer(stream, reader) for stream, reader in READERS}

    def _consumer(self, stream: str, reader: str) -> Consumer:
        timeout_s = None if stream == EXPERIENCE else 60.0
        return Consumer(
            streams.connect(self.address), self.address.run_id, stream, reader, "worker-0", claim_timeout_s=timeout_s
        )

    def issue(self, count: int) -> None:
        first, payload = self.ledger.cursor().group, self.payloads[PROMPTS]
        offers = [Offer(group=first + i, payload=payload, after=Cursor(group=first + i + 1)) for i in range(count)]
        assert self.ledger.issue(offers, version=self.ledger.version(), limit=1 << 30) == count

    def hand_on(self, stream: str, destination: str, count: int, block_s: float) -> int:
        """Claim up to `count` groups and hand them on; return how many."""
        entries = self.consumers[stream].claim(count, block_s=block_s)
        for entry in entries:
            self.consumers[stream].hand_off(entry, destination, self.payloads[destination])
        return len(entries)

    def deliver(self, count: int) -> None:
        """Take `count` new groups up to the learner's stream."""
        for begin in range(0, count, 64):
            self.issue(min(64, count - begin))
            while self.hand_on(PROMPTS, ROLLOUTS, 16, 0):
                self.hand_on(ROLLOUTS, EXPERIENCE, 64, 0)

    def through(self, count: int) -> float:
        """Return groups/s through all three streams."""
        began = time.perf_counter()
        self.deliver(count)
        self.learn(count)
        return count / (time.perf_counter() - began)

    def learn(self, count: int) -> None:
        """Take so many groups out of the learner's stream."""
        ids, version = list[str](), self.ledger.version()
        while len(ids) < count:
            entries = self.consumers[EXPERIENCE].claim(STEP, block_s=0)
            version += 1
            self.ledger.advance(version, [entry.group for entry in entries])
            ids += [entry.id for entry in entries]
        self.ledger.acknowledge(version, ids)
        self.ledger.trim()

    def plain(self, count: int) -> float:
        """Return groups/s of plain XADDs."""
        began, name = time.perf_counter(), streams.key(self.address.run_id, "plain")
        for group in range(count):
            for payload in self.payloads.values():
                self.client.xadd(name, {"g": group, "p": payload})
        rate = count / (time.perf_counter() - began)
        self.client.unlink(name)
        return rate

    def p99_ms(self, seconds: float) -> float:
        """Return the 99th percentile from issue to the learner's claim, at RATE groups a second."""
        issued, arrived, count = dict[int, float](), dict[int, float](), round(seconds * RATE)

        def learn() -> None:
            entries = self.consumers[EXPERIENCE].claim(64, block_s=0.5)
            arrived.update((entry.group, time.perf_counter()) for entry in entries)

        sample, reward = (
            lambda: self.hand_on(PROMPTS, ROLLOUTS, 16, 0.5),
            lambda: self.hand_on(ROLLOUTS, EXPERIENCE, 64, 0.5),
        )
        with repeated(sample, reward, learn):
            began = time.perf_counter()
            for number in range(count):
                time.sleep(max(0.0, began + number / RATE - time.perf_counter()))
                issued[number] = time.perf_counter()
                self.issue(1)
            while len(arrived) < count:
                if time.perf_counter() - issued[count - 1] > 30:
                    raise TimeoutError(f"the learner waited 30 s for {count - len(arrived)} of {count} groups")
                time.sleep(0.05)
        waits = sorted(arrived[group] - at for group, at in issued.items())
        return 1000 * waits[int(0.99 * (count - 1))]

    def memory(self, count: int) -> float:
        """Return the bytes by which the server's memory grows for each of `count` groups that wait for the learner."""
        before = int(self.client.info("memory")["used_memory"])
        self.deliver(count)
        return (int(self.client.info("memory")["used_memory"]) - before) / count


def measure(quick: bool) -> list[Measured]:
    rounds, count, tries = (2, 64, 1) if quick else (7, 1024, 3)
    with tempfile.TemporaryDirectory(prefix="spct-bench-") as folder, EmbeddedServer(Path(folder)) as server:
        run = Run(server.url, "rate")
        rates = turns(rounds, {"ours": lambda: run.through(count), "plain": lambda: run.plain(count)})
        paced = tuple(Run(server.url, f"paced-{number}").p99_ms(0.5 if quick else 10.0) for number in range(tries))
        grown = tuple(Run(server.url, f"memory-{number}").memory(4 * count) for number in range(tries))
    payload = (float(len(run.payloads[EXPERIENCE])),) * tries
    return [
        Measured(figure="streams rate", unit="groups/s", ours=tuple(rates["ours"]), against=tuple(rates["plain"])),
        Measured(figure="streams p99", unit="ms", ours=paced),
        Measured(figure="streams memory", unit="bytes", ours=grown, against=payload),
    ]


if __name__ == "__main__":
    main(measure, __doc__)
