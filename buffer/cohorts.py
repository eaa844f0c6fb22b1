r"""Cohorts of a reward server: responses of one group that come one by one, are judged once, and all get that one verdict.

    seat ─▶ join ─▶ COLLECTING ─ all are in, or its time is over ─▶ READY ─ lease ─▶ LEASED ─ finish ─▶ JUDGED ─▶ (deleted)
                                                                      ▲                │ its lease runs out, or release
                                                                      └────────────────┘
A cohort is named by (tenant, group, attempt). What holds for each one c, whatever was killed:

    |verdicts(c)| <= 1                                  `cohort_finish.lua`: the first one stays
    responses(c) do not change once c is not COLLECTING `cohort_join.lua`: 'closed'
    slot of c -> at most one response                   `cohort_join.lua`: 'taken'
    answer(member m of c) = verdict(c)[slot of m]       so a repeated request gets what the first one got
    place of a vote of c -> at most one answer          `cohort_vote.lua`, and a lease hands over the votes that are there

A lease has a term: what a judge writes under an older one is refused, so two that hold one cohort in turn never mix. A judge
that dies between a vote and its `keep` loses that vote, and no other.

Every process of the server may do any of this; none of them keeps anything that another one needs.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

import redis

from buffer.connection import Address, Argument, Namespace, connect

OPEN = "open-cohorts"
KEEP_S = 3600  # of a verdict, and of a cohort without one from the deadline of the last who asked
OPEN_AT_A_TIME = 4096
State = Literal["collecting", "ready", "judged", "gone"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """A cohort as those see it who wait for it."""

    state: State
    """`gone`: it was deleted, or never was."""
    closes_s: float
    """Until it is judged with what it has."""
    due_s: float
    """Until its deadline."""
    leased_s: float
    """Until its judge must have written; 0: nobody judges it."""
    votes: int
    """Answers that were kept."""
    verdict: bytes | None
    """What `finish` was given."""

    @property
    def is_free(self) -> bool:
        """Whether it waits for a judge: for votes, or behind its deadline for a verdict by those that were kept."""
        return self.state == "ready" and not self.leased_s and bool(self.due_s or self.votes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """Why a member did not join."""

    why: Literal["full", "other", "taken", "closed"]
    """Too many cohorts are open; it is of another question or size; another response has its slot; it comes too late."""
    slot: int = 0
    """Which slot."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """A cohort to be judged, by one judge."""

    cohort: str
    """Its name."""
    term: int
    """The fence of what is written under it."""
    due_s: float
    """Until its deadline."""
    question: bytes
    """What the members agree on."""
    missing: int
    """Members that did not come."""
    slots: tuple[int, ...]
    """Those that came, ascending."""
    responses: tuple[str, ...]
    """Their responses."""
    votes: Mapping[int, bytes]
    """Answers that were kept, by place."""


class Cohorts:
    """The cohorts on a Redis server. Thread-safe; calls block, and are repeated while the server restarts."""

    def __init__(self, client: redis.Redis, run_id: str, *, keep_s: int = KEEP_S, most: int = OPEN_AT_A_TIME) -> None:
        """Takes a connection.

        Args:
            client: As `connect` makes it.
            run_id: Name of the server's keys.
            keep_s: How long a verdict is kept, in seconds; a cohort without one from the deadline of the last who asked.
            most: Cohorts that may be without a verdict at a time, of those that somebody may wait for.
        """
        self._space, self._keep_s, self._most = Namespace(client, run_id), keep_s, most
        self._process = secrets.token_hex(4)  # whose requests wait: when it dies, they do not

    def seat(self, group: str, response: str, *, size: int, closed: int | None = None) -> tuple[int, int]:
        """Returns attempt and slot of a response whose caller names neither. A response that is seated keeps its place.

        Args:
            group: Name of the group.
            response: The response.
            size: Members of a cohort.
            closed: An attempt that takes nobody any more (`Refused.why` "closed").
        """
        past = "" if closed is None else closed
        names = [f"seats:{group}", f"seats:{group}:before"]
        attempt, slot = self._space.run("cohort_seat", names, digest(response), size, self._keep_s, past)
        return attempt, slot

    def join(
        self,
        cohort: str,
        responses: Mapping[int, str],
        *,
        ticket: str,
        question: bytes,
        size: int,
        collect_s: float,
        deadline_s: float,
        twins: bool = False,
    ) -> Look | Refused:
        """Adds responses to a cohort, which begins with its first.

        Args:
            cohort: Its name.
            responses: {slot: text}.
            ticket: Of the request: a call that is repeated adds nothing.
            question: What the members agree on; another one is refused.
            size: Members that it waits for.
            collect_s: How long it waits for them, in seconds from its first.
            deadline_s: In which the request must be answered. The earliest deadline is the cohort's; the latest one, where
                there is no vote by then.
            twins: Whether equal responses that wait at one time are several members. A cohort that is whole by them alone is
                ready a second later, once each process that waits for it has looked (`cohort_twins.lua`).
        """
        rows: list[Argument] = []
        for slot, text in responses.items():
            rows += [slot, text, digest(text)]
        marks: list[Argument] = [cohort, self._process, ticket, question, sha256(question).hexdigest(), size]
        limits: list[Argument] = [round(collect_s * 1000), round(deadline_s * 1000), self._keep_s, self._most, int(twins)]
        answer, *rest = self._space.run("cohort_join", [_key(cohort), OPEN], *marks, *limits, *rows)
        if answer != b"joined":
            return Refused(why=answer.decode(), slot=rest[0] if rest else 0)
        return _look(rest)

    def leave(self, cohort: str, ticket: str) -> None:
        """A request waits no longer for its cohort."""
        self._space.run("cohort_leave", [_key(cohort)], self._process, ticket)

    def look(self, cohorts: Sequence[str]) -> list[Look]:
        """Returns how cohorts stand, in order."""
        names = [_key(each) for each in cohorts]
        return [_look(row) for row in self._space.run("cohort_look", names, self._process)] if names else []

    def lease(self, cohort: str, owner: str, *, lease_s: float) -> Lease | None:
        """Takes a cohort that waits for a judge; None where it does not."""
        call = secrets.token_hex(8)
        answer, *rest = self._space.run("cohort_lease", [_key(cohort)], owner, round(lease_s * 1000), call)
        if answer != b"yours":
            return None
        term, due, question, _, missing, slots, responses, votes = rest
        return Lease(
            cohort=cohort,
            term=term,
            due_s=due / 1000,
            question=question,
            missing=missing,
            slots=tuple(slots),
            responses=tuple(text.decode() for text in responses),
            votes={int(place): answer for place, answer in zip(votes[::2], votes[1::2], strict=True)},
        )

    def keep(self, lease: Lease, votes: Mapping[int, bytes], *, lease_s: float) -> bool:
        """Keeps votes, and the lease for another `lease_s`. Returns whether it is still held; if not, nothing was kept."""
        rows: list[Argument] = []
        for place, answer in votes.items():
            rows += [place, answer]
        head = (lease.term, round(lease_s * 1000))
        return bool(self._space.run("cohort_vote", [_key(lease.cohort)], *head, *rows))

    def release(self, lease: Lease) -> None:
        """Gives a cohort back to whoever judges it next."""
        self._space.run("cohort_release", [_key(lease.cohort)], lease.term)

    def finish(self, lease: Lease, verdict: bytes) -> bytes | None:
        """Returns the verdict that counts: the first. None where the lease was taken over, and there is none yet."""
        names = [_key(lease.cohort), OPEN]
        return self._space.run("cohort_finish", names, lease.cohort, lease.term, verdict, self._keep_s) or None

    def ages(self) -> list[float]:
        """Returns how old each cohort without a verdict is that somebody may wait for, in seconds, the oldest first."""
        return sorted((each / 1000 for each in self._every("cohort_ages")), reverse=True)

    def resume(self) -> int:
        """A server starts: cohorts that collect get their whole time again, and no judge holds one. Returns how many there are
        without a verdict."""
        return int(self._every("cohort_resume"))

    def close(self) -> int:
        """A server stops: cohorts that collect are ready with what they have. Returns how many those are."""
        return int(self._every("cohort_close"))

    def _every(self, script: str) -> Any:
        return self._space.run(script, [OPEN], self._space.key(_key("")))


def connected(address: Address, *, timeout_s: float, keep_s: int = KEEP_S, most: int = OPEN_AT_A_TIME) -> Cohorts:
    """Returns the cohorts at an address. ServerError when its server cannot be used."""
    return Cohorts(connect(address, timeout_s=timeout_s), address.run_id, keep_s=keep_s, most=most)


def digest(text: str) -> str:
    """Returns what tells texts apart."""
    return sha256(text.encode()).hexdigest()


def _key(cohort: str) -> str:
    return f"cohort:{cohort}"


def _look(row: Sequence[bytes | int]) -> Look:
    state, closes, due, left, votes, verdict = row
    assert isinstance(state, bytes)
    return Look(
        state=state.decode(),  # type: ignore[arg-type]
        closes_s=int(closes) / 1000,
        due_s=int(due) / 1000,
        leased_s=int(left) / 1000,
        votes=int(votes),
        verdict=bytes(verdict) if verdict else None,  # type: ignore[arg-type]
    )
