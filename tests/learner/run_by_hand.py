"""A run driven by hand, for the learners' tests: random experience on a real server, a sink that keeps what it gets."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from buffer import streams
from buffer.ledger import Cursor, Ledger, Offer
from buffer.messages import ExperienceGroup, encode
from buffer.streams import Address, Consumer
from buffer.weights import PublishedWeights
from configs.schema import Config
from learner.grpo import GRPOLearner
from learner.meta_rm import MetaRMLearner

SAMPLES = 4


def config(model: Path, /, **sections: dict[str, Any]) -> Config:
    """Return a small configuration; `sections` change leaves of it."""
    base: dict[str, dict[str, Any]] = {
        "model": {"path": str(model), "context": 64},
        "data": {"train": ["unused"], "heldout": ["unused"]},
        "rollout": {"samples": SAMPLES, "max_new_tokens": 24},
        "grpo": {"steps": 100, "batch_groups": 2, "max_staleness": 1, "lr": 1e-2, "warmup_steps": 2, "beta": 0.1},
        "learner": {"zero_stage": 0, "micro_tokens": 128, "checkpoint_every": 100},
        "meta_rm": {"zero_stage": 0, "lr": 1e-2, "batch": 8, "max_backlog": 16, "micro_tokens": 128},
    }
    for name, leaves in sections.items():
        base[name] = base.get(name, {}) | leaves
    return Config.model_validate(base)


END = 2  # token id that ends a completion, in the random models


def experience(
    group: int, issued_at: int, *, rewards: Sequence[float] = (), failures: Sequence[str] = (), vocabulary: int = 250
) -> ExperienceGroup:
    """Return a random group in two orders, the same for the same number; informative unless `rewards` are equal."""
    rng = random.Random(group)
    prompts = [tuple(rng.randrange(vocabulary) for _ in range(rng.randint(2, 30))) for _ in range(2)]
    lengths = [rng.randint(1, 20) for _ in range(SAMPLES)]
    return ExperienceGroup(
        group=group,
        preference=f"p{group}",
        issued_at=issued_at,
        responses=2,
        prompt_ids=tuple(prompts),
        samples=(1, SAMPLES - 1),
        completion_ids=tuple((*(rng.randrange(4, vocabulary) for _ in range(length - 1)), END) for length in lengths),
        logprobs=tuple(tuple(-5.0 - rng.random() for _ in range(length)) for length in lengths),
        versions=tuple((issued_at,) * length for length in lengths),
        rewards=tuple(rewards) or (1.0, -1.0, *(rng.choice([1.0, -1.0]) for _ in range(SAMPLES - 2))),
        failures=tuple(failures) or ("",) * SAMPLES,
        truncated=tuple(length == 20 for length in lengths),
        picks=(None,) * SAMPLES,
        places=(None,) * SAMPLES,
    )


class Sink:
    """Keeps what was published, newest last."""

    def __init__(self) -> None:
        self.published: list[PublishedWeights] = []

    def publish(self, weights: PublishedWeights) -> None:
        self.published.append(weights)

    def republish_if_lost(self) -> None:
        """Do nothing: it cannot be lost."""


class Run:
    """A run on a server: issues groups and delivers them to `experience` as the driver and the workers do."""

    def __init__(self, address: Address, folder: Path) -> None:
        self.address, self.folder = address, folder
        self.client = streams.connect(address)
        streams.setup(self.client, address.run_id, meta_rm=True)
        self.ledger = Ledger(self.client, address.run_id)
        self.sink = Sink()

    def issue(self, count: int, limit: int = 1000) -> list[int]:
        """Issue `count` groups at the current version, as far as there is credit; return their numbers."""
        first = self.ledger.cursor().group
        offers = [Offer(group=group, payload=b"unread", after=Cursor(group=group + 1)) for group in range(first, first + count)]
        return list(range(first, first + self.ledger.issue(offers, version=self.ledger.version(), limit=limit)))

    def deliver(self, group: ExperienceGroup) -> None:
        self.deliver_bytes(group.group, encode(group))

    def deliver_bytes(self, group: int, payload: bytes) -> None:
        self.client.xadd(streams.key(self.address.run_id, streams.EXPERIENCE), {"g": group, "p": payload})

    def feed(self, count: int, **options: Any) -> list[int]:
        """Issue groups and deliver them at once."""
        version, groups = self.ledger.version(), self.issue(count)
        for group in groups:
            self.deliver(experience(group, version, **options))
        return groups

    def pending(self, group: str) -> int:
        """Return how many entries of `experience` were claimed in a consumer group and not acknowledged."""
        name = streams.key(self.address.run_id, streams.EXPERIENCE)
        return int(self.client.xpending(name, group)["pending"])

    def grpo(self, settings: Config, **more: Any) -> GRPOLearner:
        """Return a started GRPO learner of one rank."""
        learner = GRPOLearner(
            settings,
            rank=0,
            world=1,
            model_path=settings.model.path,
            address=self.address,
            sink=self.sink,
            checkpoints=self.folder / "policy",
            **more,
        )
        learner.start(*learner.rendezvous())
        return learner

    def meta_rm(self, settings: Config) -> MetaRMLearner:
        """Return a started meta-RM learner of one rank."""
        learner = MetaRMLearner(
            settings,
            rank=0,
            world=1,
            model_path=settings.model.path,
            address=self.address,
            checkpoints=self.folder / "meta_rm",
        )
        learner.start(*learner.rendezvous())
        return learner

    def other_consumer(self) -> Consumer:
        """Return another consumer of the GRPO learner's group, as an older process of the learner is one."""
        return Consumer(self.client, self.address.run_id, streams.EXPERIENCE, streams.GRPO, streams.GRPO, claim_timeout_s=None)

    def close(self) -> None:
        streams.remove(self.client, self.address.run_id)
        self.client.close()
