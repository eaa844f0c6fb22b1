"""Cohorts on the real server: each is judged at most once, and no vote that was kept is asked for again, whoever dies."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import redis

from buffer.cohorts import Cohorts, Lease, Look, Refused, connected
from buffer.connection import Address, connect
from buffer.server import EmbeddedServer
from buffer.streams import key
from tests.buffer.run_by_hand import Run, repeat_writes

QUESTION = b'{"query": "q"}'


@pytest.fixture
def cohorts(run: Run) -> Cohorts:
    return Cohorts(run.client, run.run_id)


def let(client: redis.Redis, address: Address, cohort: str, mark: str) -> None:
    """Let a time of a cohort be over: `closes`, `due` or `until`."""
    client.hset(key(address.run_id, f"cohort:{cohort}"), mark, 1)


def join(cohorts: Cohorts, slot: int, text: str, *, cohort: str = "c", ticket: str = "", size: int = 3, **how: object) -> Look:
    times = {"collect_s": 60.0, "deadline_s": 100.0} | how
    joined = cohorts.join(cohort, {slot: text}, ticket=ticket or f"{slot}", question=QUESTION, size=size, **times)
    assert isinstance(joined, Look)
    return joined


def test_a_cohort_is_ready_with_its_last_member(cohorts: Cohorts) -> None:
    assert [join(cohorts, slot, f"r{slot}").state for slot in (2, 0)] == ["collecting"] * 2
    assert cohorts.lease("c", "judge", lease_s=5) is None
    assert join(cohorts, 2, "r2", ticket="again").state == "collecting", "a retry is no third member"
    assert join(cohorts, 1, "r1").state == "ready"
    lease = cohorts.lease("c", "judge", lease_s=5)
    assert lease is not None
    assert (lease.slots, lease.responses, lease.missing, lease.votes) == ((0, 1, 2), ("r0", "r1", "r2"), 0, {})
    assert lease.question == QUESTION


def test_a_taken_slot_a_late_member_and_another_question_are_refused(
    cohorts: Cohorts, client: redis.Redis, address: Address
) -> None:
    join(cohorts, 0, "r0")
    ask = {"ticket": "t", "size": 3, "collect_s": 60.0, "deadline_s": 100.0}
    assert cohorts.join("c", {0: "another"}, question=QUESTION, **ask) == Refused(why="taken", slot=0)
    assert cohorts.join("c", {1: "r1"}, question=b"another", **ask) == Refused(why="other")
    assert cohorts.join("c", {1: "r1"}, question=QUESTION, **ask | {"size": 4}) == Refused(why="other")
    let(client, address, "c", "closes")
    assert cohorts.look(["c"])[0].state == "ready"
    assert cohorts.join("c", {1: "r1"}, question=QUESTION, **ask) == Refused(why="closed", slot=1)
    assert join(cohorts, 0, "r0", ticket="again").state == "ready", "who is in may ask again"


def test_what_is_there_when_the_time_is_over_is_judged_and_what_is_missing_is_told(
    cohorts: Cohorts, client: redis.Redis, address: Address
) -> None:
    join(cohorts, 2, "r2")
    let(client, address, "c", "closes")
    lease = cohorts.lease("c", "judge", lease_s=5)
    assert lease is not None
    assert (lease.slots, lease.missing) == ((2,), 2)


def test_the_first_verdict_stays(cohorts: Cohorts, client: redis.Redis, address: Address) -> None:
    join(cohorts, 0, "r0", size=1)
    first = cohorts.lease("c", "first", lease_s=5)
    assert first is not None
    assert cohorts.lease("c", "second", lease_s=5) is None
    assert cohorts.keep(first, {0: b"vote 0"}, lease_s=5)
    let(client, address, "c", "until")
    second = cohorts.lease("c", "second", lease_s=5)
    assert second is not None
    assert (second.votes, second.term) == ({0: b"vote 0"}, first.term + 1)
    assert not cohorts.keep(first, {1: b"late"}, lease_s=5), "its lease was taken over"
    assert cohorts.finish(first, b"verdict of the first") is None
    assert cohorts.finish(second, b"verdict") == b"verdict"
    assert cohorts.finish(second, b"another") == b"verdict"
    assert join(cohorts, 0, "r0", size=1, ticket="again").verdict == b"verdict"
    assert cohorts.lease("c", "third", lease_s=5) is None
    assert cohorts.ages() == []


def test_a_judge_that_gives_a_cohort_back_leaves_its_votes(cohorts: Cohorts) -> None:
    join(cohorts, 0, "r0", size=1)
    lease = cohorts.lease("c", "first", lease_s=5)
    assert lease is not None
    cohorts.keep(lease, {3: b"vote 3"}, lease_s=5)
    cohorts.release(lease)
    assert cohorts.look(["c"])[0].is_free
    assert (again := cohorts.lease("c", "second", lease_s=5)) is not None
    assert again.votes == {3: b"vote 3"}


def test_a_cohort_that_is_asked_for_after_its_deadline_gets_another(
    cohorts: Cohorts, client: redis.Redis, address: Address
) -> None:
    assert join(cohorts, 0, "r0", size=1).due_s > 90
    assert join(cohorts, 0, "r0", size=1, ticket="hurried", deadline_s=10.0).due_s <= 10, "the earliest counts"
    let(client, address, "c", "due")
    assert cohorts.look(["c"])[0].due_s > 90, "there is no vote, and the first one waits still"
    let(client, address, "c", "due")
    let(client, address, "c", "last")
    assert cohorts.look(["c"])[0].due_s == 0
    assert join(cohorts, 0, "r0", size=1, ticket="again").due_s > 90


def test_votes_that_were_kept_are_judged_behind_the_last_deadline(
    cohorts: Cohorts, client: redis.Redis, address: Address
) -> None:
    join(cohorts, 0, "r0", size=1)
    lease = cohorts.lease("c", "judge", lease_s=5)
    assert lease is not None
    assert cohorts.keep(lease, {1: b"vote"}, lease_s=5)
    for mark in ("due", "last", "until"):  # the judge died
        let(client, address, "c", mark)
    look = cohorts.look(["c"])[0]
    assert (look.due_s, look.votes, look.is_free) == (0, 1, True)
    assert (again := cohorts.lease("c", "another", lease_s=5)) is not None
    assert again.votes == {1: b"vote"}


def test_what_all_callers_left_takes_nobody_of_a_later_try(cohorts: Cohorts, client: redis.Redis, address: Address) -> None:
    """A trainer that was started again sends the same prompts: its responses are judged beside each other alone."""
    join(cohorts, 0, "r0", twins=True)
    let(client, address, "c", "closes")
    ask = {"ticket": "t", "question": QUESTION, "size": 3, "collect_s": 60.0, "deadline_s": 100.0}
    assert cohorts.join("c", {1: "r1"}, **ask, twins=True) == Refused(why="closed", slot=1)
    assert isinstance(cohorts.join("c", {1: "r1"}, **ask), Look), "its group, its try and its place say where it belongs"


def test_a_server_that_starts_again_collects_on_and_no_judge_has_a_lease(
    cohorts: Cohorts, client: redis.Redis, address: Address
) -> None:
    join(cohorts, 0, "r0", cohort="collects")
    let(client, address, "collects", "closes")  # while there was no server
    let(client, address, "collects", "born")
    client.hset(key(address.run_id, "cohort:collects"), "closes", 60_001)
    join(cohorts, 0, "r0", cohort="leased", size=1)
    assert cohorts.lease("leased", "dead", lease_s=60) is not None
    assert cohorts.resume() == 2
    collects, leased = cohorts.look(["collects", "leased"])
    assert (collects.state, 59 < collects.closes_s <= 60) == ("collecting", True)
    assert leased.is_free
    assert join(cohorts, 1, "r1", cohort="collects").state == "collecting"


def test_a_server_that_stops_judges_what_it_has(cohorts: Cohorts) -> None:
    join(cohorts, 0, "r0")
    assert cohorts.close() == 1
    assert cohorts.look(["c"])[0].is_free
    lease = cohorts.lease("c", "judge", lease_s=5)
    assert lease is not None
    assert lease.missing == 2
    assert cohorts.close() == 0


def settled(cohorts: Cohorts, client: redis.Redis, address: Address) -> str:
    """How a cohort that is whole by twins stands once hang-ups had their time to arrive."""
    assert cohorts.look(["c"])[0].state == "collecting", "a hang-up may be on its way"
    if client.hexists(key(address.run_id, "cohort:c"), "whole"):
        let(client, address, "c", "whole")
    return cohorts.look(["c"])[0].state


def test_equal_responses_that_wait_together_are_members_and_a_retry_is_none(
    cohorts: Cohorts, client: redis.Redis, address: Address
) -> None:
    twins = {"size": 2, "twins": True}
    assert join(cohorts, 0, "same", ticket="one", **twins).state == "collecting"
    cohorts.leave("c", "one")
    join(cohorts, 0, "same", ticket="one again", **twins)
    assert settled(cohorts, client, address) == "collecting", "the first waits no longer"
    join(cohorts, 0, "same", ticket="two", **twins)
    assert settled(cohorts, client, address) == "ready"
    lease = cohorts.lease("c", "judge", lease_s=5)
    assert lease is not None
    assert (lease.responses, lease.missing) == (("same",), 0)


def test_a_retry_that_comes_before_its_hang_up_is_no_twin(cohorts: Cohorts, client: redis.Redis, address: Address) -> None:
    twins = {"size": 3, "twins": True}
    join(cohorts, 1, "another", **twins)
    join(cohorts, 0, "same", ticket="one", **twins)
    join(cohorts, 0, "same", ticket="one again", **twins)
    assert cohorts.look(["c"])[0].state == "collecting"
    cohorts.leave("c", "one")
    assert settled(cohorts, client, address) == "collecting"
    join(cohorts, 0, "same", ticket="two", **twins)
    assert settled(cohorts, client, address) == "ready", "and the time of the third begins with it"


def test_who_leaves_and_asks_again_is_no_third_twin(cohorts: Cohorts, client: redis.Redis, address: Address) -> None:
    twins = {"size": 3, "twins": True}
    join(cohorts, 0, "same", ticket="one", **twins)
    join(cohorts, 0, "same", ticket="two", **twins)
    cohorts.leave("c", "one")
    join(cohorts, 0, "same", ticket="one again", **twins)
    assert settled(cohorts, client, address) == "collecting"
    join(cohorts, 1, "another", ticket="three", **twins)
    assert settled(cohorts, client, address) == "ready"


def test_twins_that_wait_in_two_processes_are_members_once_both_have_looked(
    run: Run, cohorts: Cohorts, client: redis.Redis, address: Address
) -> None:
    other, twins = Cohorts(run.client, run.run_id), {"size": 2, "twins": True}
    join(other, 0, "same", ticket="one", **twins)
    join(cohorts, 0, "same", ticket="two", **twins)
    now = client.time()
    client.hset(key(address.run_id, "cohort:c"), "whole", now[0] * 1000)  # hang-ups have had their time
    assert cohorts.look(["c"])[0].state == "collecting"
    assert cohorts.lease("c", "judge", lease_s=5) is None
    assert other.look(["c"])[0].state == "ready"
    lease = cohorts.lease("c", "judge", lease_s=5)
    assert lease is not None
    assert (lease.responses, lease.missing) == (("same",), 0)


def test_the_retry_of_a_request_whose_process_died_is_no_twin(
    cohorts: Cohorts, run: Run, client: redis.Redis, address: Address
) -> None:
    twins = {"size": 3, "twins": True}
    join(Cohorts(run.client, run.run_id), 0, "r0", ticket="lost", **twins)
    join(cohorts, 1, "r1", **twins)
    assert join(cohorts, 0, "r0", ticket="again", **twins).state == "collecting"
    cohorts.look(["c"])
    waited = client.time()[0] * 1000 - 10_000  # long since: nobody looks in the name of the first
    client.hset(key(address.run_id, "cohort:c"), "whole", waited)
    assert cohorts.look(["c"])[0].state == "collecting"
    assert join(cohorts, 2, "r2", **twins).state == "ready"
    lease = cohorts.lease("c", "judge", lease_s=5)
    assert lease is not None
    assert (lease.responses, lease.missing) == (("r0", "r1", "r2"), 0)


def test_members_without_slots_are_seated_in_turn_and_keep_their_seats(cohorts: Cohorts) -> None:
    assert [cohorts.seat("g", text, size=2) for text in ("a", "b", "a", "c")] == [(0, 0), (0, 1), (0, 0), (1, 0)]
    assert cohorts.seat("g", "d", size=2, closed=1) == (2, 0), "the cohort of attempt 1 was judged short"
    assert cohorts.seat("g", "e", size=2) == (2, 1)
    assert cohorts.seat("g", "a", size=2) == (0, 0)
    assert cohorts.seat("other", "a", size=2) == (0, 0)


def test_places_are_forgotten_so_that_a_group_which_is_never_idle_does_not_grow(
    run: Run, client: redis.Redis, address: Address
) -> None:
    cohorts, name = Cohorts(run.client, run.run_id, keep_s=100), key(address.run_id, "seats:g")

    def later() -> None:
        client.hset(name, "since", 1)

    assert [cohorts.seat("g", text, size=2) for text in "abc"] == [(0, 0), (0, 1), (1, 0)]
    later()
    assert [cohorts.seat("g", text, size=2) for text in "abd"] == [(0, 0), (0, 1), (1, 1)], "of a span ago"
    later()
    assert cohorts.seat("g", "a", size=2) == (2, 0), "of two spans ago"
    assert cohorts.seat("g", "d", size=2) == (1, 1)
    assert client.hlen(name) == 4
    assert 0 < client.ttl(f"{name}:before") <= 100


def test_however_short_a_time_verdicts_are_kept_a_cohort_outlives_its_deadline(
    run: Run, client: redis.Redis, address: Address
) -> None:
    cohorts, name = Cohorts(run.client, run.run_id, keep_s=10), key(address.run_id, "cohort:c")
    join(cohorts, 0, "r", size=1)
    lease = cohorts.lease("c", "judge", lease_s=5)
    assert lease is not None
    assert cohorts.keep(lease, {0: b"vote"}, lease_s=5)
    assert 100 < client.ttl(name) <= 110
    cohorts.finish(lease, b"verdict")
    assert 0 < client.ttl(name) <= 10
    join(cohorts, 0, "r", size=1, ticket="again")
    assert 0 < client.ttl(name) <= 10


def test_only_so_many_cohorts_are_open_at_a_time(run: Run, client: redis.Redis, address: Address) -> None:
    cohorts = Cohorts(run.client, run.run_id, most=2)
    ask = {"ticket": "t", "question": QUESTION, "size": 1, "collect_s": 60.0, "deadline_s": 100.0}
    assert all(isinstance(cohorts.join(name, {0: "r"}, **ask), Look) for name in ("a", "b"))
    assert cohorts.join("c", {0: "r"}, **ask) == Refused(why="full")
    lease = cohorts.lease("a", "judge", lease_s=5)
    assert lease is not None
    cohorts.finish(lease, b"verdict")
    assert isinstance(cohorts.join("c", {0: "r"}, **ask), Look)
    assert cohorts.join("d", {0: "r"}, **ask) == Refused(why="full")
    assert len(cohorts.ages()) == 2
    for name in ("b", "c"):  # their callers went away, and come no more
        client.zadd(key(address.run_id, "open-cohorts"), {name: 1})
    assert cohorts.ages() == []
    assert isinstance(cohorts.join("d", {0: "r"}, **ask), Look), "nobody waits for those"


def test_the_servers_own_account_may_do_all_of_it_and_nothing_else(server: EmbeddedServer, address: Address) -> None:
    own = Address(server.url_for("server"), address.run_id)
    cohorts = connected(own, timeout_s=5)
    attempt, slot = cohorts.seat("g", "r", size=1)
    join(cohorts, slot, "r", cohort=f"c{attempt}", size=1)
    cohorts.leave(f"c{attempt}", "0")
    lease = cohorts.lease("c0", "judge", lease_s=5)
    assert lease is not None
    assert cohorts.keep(lease, {0: b"v"}, lease_s=5)
    cohorts.release(lease)
    lease = cohorts.lease("c0", "judge", lease_s=5)
    assert lease is not None
    assert len(cohorts.ages()) == cohorts.resume() == 1
    assert cohorts.close() == 0
    assert cohorts.finish(lease, b"verdict") == b"verdict"
    with connect(own) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.get(key(address.run_id, "version"))


# ---- whoever dies ----------------------------------------------------------------------------------------------------


@dataclass
class Storm:
    """Members and judges that die between any two steps, come back, and act on what they knew before."""

    cohorts: Cohorts
    expire: Callable[[str, str], None]
    rng: random.Random
    size: int = 3
    k: int = 3
    kept: Counter[tuple[str, int]] = field(default_factory=Counter)
    asked: Counter[tuple[str, int]] = field(default_factory=Counter)
    lost: Counter[tuple[str, int]] = field(default_factory=Counter)
    leases: list[tuple[Lease, dict[int, bytes]]] = field(default_factory=list)
    verdicts: dict[str, set[bytes]] = field(default_factory=dict)
    tickets: int = 0

    def member(self, cohort: str, slot: int) -> None:
        self.tickets += 1
        look = join(self.cohorts, slot, f"{cohort}/{slot}", cohort=cohort, ticket=f"t{self.tickets}", size=self.size)
        self._seen(cohort, look.verdict)

    def lease(self, cohort: str) -> None:
        lease = self.cohorts.lease(cohort, f"judge {self.rng.randrange(3)}", lease_s=60)
        if lease is not None:
            assert set(lease.votes) == {place for (name, place) in self.kept if name == cohort}, "no kept vote is paid again"
            self.leases.append((lease, dict(lease.votes)))

    def vote(self, lease: Lease, votes: dict[int, bytes]) -> None:
        missing = [place for place in range(self.k) if place not in votes]
        if not missing:
            return
        place = self.rng.choice(missing)
        self.asked[lease.cohort, place] += 1
        if self.rng.random() < 0.2:  # dies before it is kept
            self.lost[lease.cohort, place] += 1
            self.leases.remove((lease, votes))
            return
        answer = f"{lease.cohort}/{place}/{self.asked[lease.cohort, place]}".encode()
        if self.cohorts.keep(lease, {place: answer}, lease_s=60):
            self.kept[lease.cohort, place] += 1
            votes[place] = answer
        else:
            self.lost[lease.cohort, place] += 1
            self.leases.remove((lease, votes))

    def finish(self, lease: Lease, votes: dict[int, bytes]) -> None:
        if len(votes) == self.k:
            self._seen(lease.cohort, self.cohorts.finish(lease, b"|".join(votes[place] for place in range(self.k))))
            if self.rng.random() < 0.5:  # else it goes on as a judge that was believed dead
                self.leases.remove((lease, votes))

    def step(self, names: list[str]) -> None:
        cohort, roll = self.rng.choice(names), self.rng.random()
        if roll < 0.3:
            self.member(cohort, self.rng.randrange(self.size))
        elif roll < 0.5:
            self.lease(cohort)
        elif roll < 0.6:
            self.expire(cohort, "until")
        elif self.leases:
            self.rng.choice([self.vote, self.vote, self.finish])(*self.rng.choice(self.leases))

    def _seen(self, cohort: str, verdict: bytes | None) -> None:
        if verdict is not None:
            self.verdicts.setdefault(cohort, set()).add(verdict)


@pytest.mark.parametrize("seed", range(8))
def test_members_and_judges_that_die_anywhere_get_one_verdict_and_pay_no_kept_vote_twice(
    client: redis.Redis, address: Address, seed: int
) -> None:
    names = [f"c{number}" for number in range(12)]
    through = client if seed % 2 else repeat_writes(client)

    def expire(cohort: str, mark: str) -> None:
        if client.exists(key(address.run_id, f"cohort:{cohort}")):
            let(client, address, cohort, mark)

    storm = Storm(cohorts=Cohorts(through, address.run_id), expire=expire, rng=random.Random(seed))
    for _ in range(400):
        storm.step(names)
    storm.leases.clear()  # every judge dies
    for cohort in names:
        for slot in range(storm.size):
            storm.member(cohort, slot)
        expire(cohort, "until")
        storm.lease(cohort)
        for _ in range(200):  # a step may end with a judge that dies
            if cohort in storm.verdicts and not any(lease.cohort == cohort for lease, _ in storm.leases):
                break
            for each in [each for each in storm.leases if each[0].cohort == cohort]:
                storm.vote(*each)
                if each in storm.leases:
                    storm.finish(*each)
            expire(cohort, "until")
            storm.lease(cohort)
        for slot in range(storm.size):
            storm.member(cohort, slot)
    assert {cohort: len(found) for cohort, found in storm.verdicts.items()} == dict.fromkeys(names, 1)
    assert set(storm.kept.values()) == {1}, "a place of a vote is kept once"
    assert storm.asked == storm.kept + storm.lost, "a vote is asked for again only where it was lost before it was kept"
    assert sum(storm.lost.values()) > 0
