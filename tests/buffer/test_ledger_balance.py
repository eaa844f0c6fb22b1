"""The ledger against a model: any order of issuing, working, training, dropping, dying and trimming balances.

After every step: issued = outstanding + trained + filtered + dropped + dead; never more than the limit issued (I2);
the cursor is the one behind the last prompt (I7); experience holds whatever a reader has not acknowledged (I4).
"""

import itertools

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from buffer import streams
from buffer.server import EmbeddedServer
from buffer.streams import EXPERIENCE, META_RM, PROMPTS, ROLLOUTS, Address, Consumer, Entry
from tests.buffer.run_by_hand import Run, repeat_writes

_number = itertools.count()
LIMIT = 6


class Balance(RuleBasedStateMachine):
    def __init__(self, server: EmbeddedServer) -> None:
        super().__init__()
        self.address = Address(server.url, f"balance-{next(_number)}")
        self.client = streams.connect(self.address)
        streams.setup(self.client, self.address.run_id, meta_rm=True)
        self.version = 0
        self.issued: dict[int, int] = {}  # group: u
        self.outcome: dict[int, str] = {}
        self.scored: list[int] = []  # groups in experience, in order
        self.done: dict[str, set[int]] = {"grpo": set(), META_RM: set()}  # acknowledged or skipped
        self.trained: dict[str, int] = {}  # entry id: group, trained and not yet in a checkpoint
        self.saved = 0  # the checkpoint's version
        self.held: list[Entry] = []
        self.meta_held: list[Entry] = []

    @initialize(twice=st.booleans())
    def open(self, twice: bool) -> None:
        self.run = Run(repeat_writes(self.client) if twice else self.client, self.address.run_id)
        self.learner, self.meta_rm = self.run.learner(), self.run.learner(META_RM)

    def teardown(self) -> None:
        streams.remove(self.client, self.address.run_id)
        self.client.close()

    def outstanding(self) -> dict[int, int]:
        return {group: u for group, u in self.issued.items() if group not in self.outcome}

    @rule(count=st.integers(1, 9))
    def issue(self, count: int) -> None:
        room = max(0, LIMIT - len(self.outstanding()))
        first = len(self.issued)
        assert self.run.issue(count, limit=LIMIT) == min(count, room)
        self.issued.update(dict.fromkeys(range(first, first + min(count, room)), self.version))

    def worker(self, stream: str) -> Consumer:
        return self.run.consumer(stream, claim_timeout_s=600)

    @rule(count=st.integers(1, 4))
    def roll_out(self, count: int) -> None:
        worker = self.worker(PROMPTS)
        assert all(worker.hand_off(entry, ROLLOUTS, b"r") for entry in worker.claim(count, block_s=0))

    @rule(count=st.integers(1, 4))
    def score(self, count: int) -> None:
        worker = self.worker(ROLLOUTS)
        for entry in worker.claim(count, block_s=0):
            assert worker.hand_off(entry, EXPERIENCE, b"e")
            self.scored.append(entry.group)

    @rule()
    def find_poison(self) -> None:
        worker = self.worker(ROLLOUTS)
        for entry in worker.claim(1, block_s=0):
            assert worker.dead_letter(entry, "cannot be read")
            self.outcome.setdefault(entry.group, "dead_letter")

    @rule(count=st.integers(1, 4))
    def learner_claims(self, count: int) -> None:
        for entry in self.learner.claim(count, block_s=0):
            if entry.group in self.outcome:  # dropped while in flight
                self.run.ledger.release([], outcome="dropped", entries=[entry.id])
                self.done["grpo"].add(entry.group)
            else:
                self.held.append(entry)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def train(self, data: st.DataObject) -> None:
        batch = self.held[: data.draw(st.integers(1, len(self.held)))]
        del self.held[: len(batch)]
        self.version += 1
        self.run.ledger.advance(self.version, [entry.group for entry in batch])
        self.outcome.update({entry.group: "trained" for entry in batch})
        self.trained.update({entry.id: entry.group for entry in batch})

    @precondition(lambda self: self.held)
    @rule()
    def filter_one(self) -> None:
        entry = self.held.pop()
        self.run.ledger.release([entry.group], outcome="filtered", entries=[entry.id])
        self.outcome[entry.group] = "filtered"
        self.done["grpo"].add(entry.group)

    @rule()
    def drop_the_oldest_in_flight(self) -> None:
        in_flight = [group for group in self.outstanding() if group not in self.scored]
        self.run.ledger.release(in_flight[:1], outcome="dropped", entries=[])
        self.outcome.update(dict.fromkeys(in_flight[:1], "dropped"))

    @rule()
    def save(self) -> None:
        self.saved = self.version
        self.run.ledger.acknowledge(self.version, list(self.trained))
        self.done["grpo"].update(self.trained.values())
        self.trained.clear()

    @rule(listed=st.booleans())
    def learner_dies(self, listed: bool) -> None:
        """Either before its checkpoint was written, or between that and the acknowledgement."""
        self.learner = self.run.learner()
        pending = self.learner.own_pending()
        assert [entry.group for entry in pending] == [g for g in self.scored if g in self.claimed_by_learner()]
        lists = dict(self.trained) if listed else {}
        self.saved = self.version if listed else self.saved
        regained = {entry.group: self.issued[entry.group] for entry in pending if entry.id not in lists}
        self.run.ledger.recover(self.saved, list(lists), regained)
        self.version = self.saved
        self.done["grpo"].update(lists.values())
        for entry_id, group in self.trained.items():
            if entry_id not in lists:
                del self.outcome[group]
        self.trained.clear()
        self.held = [entry for entry in pending if entry.id not in lists]

    def claimed_by_learner(self) -> set[int]:
        return {entry.group for entry in self.held} | set(self.trained.values())

    @rule(count=st.integers(1, 4), finish=st.booleans())
    def meta_rm_reads(self, count: int, finish: bool) -> None:
        self.meta_held += self.meta_rm.claim(count, block_s=0)
        if finish:
            self.meta_rm.ack([entry.id for entry in self.meta_held])
            self.done[META_RM].update(entry.group for entry in self.meta_held)
            self.meta_held = []

    @rule(backlog=st.integers(0, 4))
    def meta_rm_skips(self, backlog: int) -> None:
        unread = [g for g in self.scored if g not in self.done[META_RM] | {entry.group for entry in self.meta_held}]
        self.run.ledger.skip_backlog(META_RM, backlog)
        self.done[META_RM].update(unread[: max(0, len(unread) - backlog)])

    @rule()
    def trim(self) -> None:
        self.run.ledger.trim()
        needed = [g for g in self.scored if g not in self.done["grpo"] or g not in self.done[META_RM]]
        kept = self.run.groups_in(EXPERIENCE)
        first = self.scored.index(needed[0]) if needed else len(self.scored)
        assert kept == self.scored[first:], "I4: everything from the oldest that a reader still needs, and no more"

    @invariant()
    def accounts_balance(self) -> None:
        if not hasattr(self, "run"):
            return
        ledger = self.run.ledger
        assert ledger.outstanding() == self.outstanding()
        assert ledger.version() == self.version
        assert ledger.cursor().group == len(self.issued)
        outcomes = ledger.outcomes()
        counts = {name: list(self.outcome.values()).count(name) for name in ("trained", "filtered", "dropped", "dead_letter")}
        assert {name: outcomes[name] for name in counts} == counts
        assert outcomes["issued"] == len(self.issued) == len(self.outstanding()) + sum(counts.values())


def test_the_accounts_balance_in_any_order_of_events(server: EmbeddedServer) -> None:
    run_state_machine_as_test(
        lambda: Balance(server),
        settings=settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True),
    )
