"""The core of the server in one HTTP worker: requests become cohorts, cohorts become verdicts.

    judge   all responses are there ─────────▶ join (ready at once) ─┐
    member  one response ─▶ seat, if it names no slot ─▶ join ───────┴─▶ Watch ─▶ verdict ─▶ (its place)
    chat    ─▶ judges

Nothing is kept here: the store has it, so a worker may die and another one goes on.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from math import isfinite
from typing import Any, Protocol, TypeVar

from buffer.cohorts import Cohorts, Look, Refused
from buffer.connection import ServerError
from launch.serving.errors import BadRequest, SlotTaken, TooMany, Unjudged
from launch.serving.protocol import ChatAnswer, ChatRequest, CohortMember, MemberVerdict, Served, Verdict, VerdictRequest
from launch.serving.settings import ServerSettings
from launch.serving.watch import Judges, Lost, Watch, outliving
from launch.serving.wording import Asked, Settled

Result = TypeVar("Result")
THREADS = 16  # calls to the store that this process makes at a time
GRACE_S = 5.0  # behind the deadline: the judge counts what it has by then, and writes it
RETRY_S = 0.5  # of a call to the store that must be made
SEATS = 8  # tries to find a cohort that still collects
logger = logging.getLogger(__name__)


class AllJudges(Judges, Protocol):
    """The judges of the server."""

    async def chat(self, request: ChatRequest, seconds: float) -> ChatAnswer:
        """Returns answers of one of them. A `ServingError` where there are none in `seconds`."""
        ...


class Core:
    """A `JudgeService`."""

    def __init__(self, settings: ServerSettings, cohorts: Cohorts, judges: AllJudges) -> None:
        """Takes the store and the judges."""
        self._settings, self._cohorts, self._judges = settings, cohorts, judges
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="store")
        self._limit_s = settings.deadline_s + 2 * GRACE_S
        self._watch = Watch(judges, self._look, limit_s=self._limit_s)
        self._leaving: set[asyncio.Task[None]] = set()
        self._version = settings.version

    def served(self) -> Served:
        """Returns what is served."""
        own = self._settings
        return Served(
            model=own.model,
            votes=own.votes,
            meta=own.meta,
            size=own.size,
            collect_s=own.collect_s,
            deadline_s=own.deadline_s,
            policy_version=self._version,
            calibration=own.calibration,
        )

    async def judge(self, request: VerdictRequest) -> Verdict:
        """Returns the verdict on responses."""
        asked = self._asked(request)
        self._require_responses(request.responses, "responses")
        mark = request.idempotency_key or asked.hash(request.responses)
        name = cohort_name("request", request.tenant, mark, 0)
        responses = dict(enumerate(request.responses))
        settled = await self._settle(
            name, responses, asked, size=len(responses), collect_s=0.0, deadline_s=request.deadline_s, twins=False
        )
        return self._noted(settled)

    async def member(self, member: CohortMember) -> MemberVerdict:
        """Waits for the member's cohort, and returns its verdict."""
        asked = self._asked(member)
        self._require_responses([member.response], "response")
        size = self._whole("size", member.size, self._settings.size, self._settings.most_responses)
        self._whole("attempt", member.attempt, 0, None, low=0)
        if member.slot is not None and not 0 <= member.slot < size:
            raise BadRequest(f"slot: {member.slot}; a group of {size} has slots 0 to {size - 1}", field="slot")
        group = member.group or sha256(asked.to_bytes()).hexdigest()[:32]
        if member.slot is None:
            return await self._without_slot(member, asked, group, size)
        try:
            return await self._member(member, asked, group, size, member.attempt, member.slot)
        except _Closed as late:
            raise Unjudged(str(late), final=True) from None

    async def chat(self, request: ChatRequest) -> ChatAnswer:
        """Returns answers of the judge as a plain model."""
        self._whole("samples", request.samples, 1, self._settings.most_votes)
        self._require_responses([request.message], "message")
        if not (isfinite(request.temperature) and 0 <= request.temperature <= 2):
            raise BadRequest(f"temperature: {request.temperature}; give a number from 0 to 2", field="temperature")
        if request.max_tokens is not None:
            self._whole("max_tokens", request.max_tokens, 1, None)
        seconds = self._seconds("deadline_s", request.deadline_s, self._settings.deadline_s)
        return await self._judges.chat(request, seconds)

    async def ready(self) -> None:
        """Raises Unjudged when the store does not answer."""
        await self._stored(lambda: self._cohorts.look(["none"]))

    async def ages(self) -> list[float]:
        """Returns how old each cohort without a verdict is, in seconds, the oldest first."""
        return await self._stored(self._cohorts.ages)

    # ---- one cohort ----------------------------------------------------------------------------------------------

    async def _without_slot(self, member: CohortMember, asked: Asked, group: str, size: int) -> MemberVerdict:
        """As `member`: its response gets a slot of the cohort that collects, or of the next one."""
        seats = cohort_name(f"seats of {size}", member.tenant, group, member.attempt)
        closed: int | None = None
        for _ in range(SEATS):
            seat = partial(self._cohorts.seat, seats, member.response, size=size, closed=closed)
            attempt, slot = await self._stored(seat)
            try:
                return await self._member(member, asked, group, size, attempt, slot)
            except _Closed:
                closed = attempt
        raise TooMany("the cohorts of this query close faster than they are joined; send it again")

    async def _member(
        self, member: CohortMember, asked: Asked, group: str, size: int, attempt: int, slot: int
    ) -> MemberVerdict:
        kind = "slots" if member.slot is not None else f"seats {member.attempt} of {size}"
        settled = await self._settle(
            cohort_name(kind, member.tenant, group, attempt),
            {slot: member.response},
            asked,
            size=size,
            collect_s=self._seconds("collect_s", member.collect_s, self._settings.collect_s),
            deadline_s=member.deadline_s,
            twins=member.slot is None,
        )
        place = settled.slots.index(slot)
        return MemberVerdict(verdict=self._noted(settled), place=place, group=group, attempt=attempt, slot=slot)

    async def _settle(
        self,
        name: str,
        responses: Mapping[int, str],
        asked: Asked,
        *,
        size: int,
        collect_s: float,
        deadline_s: float | None,
        twins: bool,
    ) -> Settled:
        seconds = self._seconds("deadline_s", deadline_s, self._settings.deadline_s)
        ticket = secrets.token_hex(8)
        joining = self._threads.submit(
            self._cohorts.join,
            name,
            responses,
            ticket=ticket,
            question=asked.to_bytes(),
            size=size,
            collect_s=min(collect_s, seconds),
            deadline_s=seconds,
            twins=twins,
        )
        try:
            joined = await _answer(joining)
            found = joined if isinstance(joined, Refused) else joined.verdict or await self._wait(name, joined, seconds)
        except BaseException:  # a caller that went away, too, and maybe while it joined
            if twins:
                leaving = outliving(self._leave(name, ticket, joining))
                self._leaving.add(leaving)
                leaving.add_done_callback(self._leaving.discard)
            raise
        if isinstance(found, Refused):
            raise _refusal(found)
        return Settled.from_bytes(found)

    async def _leave(self, name: str, ticket: str, joining: Future[Look | Refused]) -> None:
        """Tells the store that a request waits no longer, once it has joined. Tried while the store does not answer."""
        limit = asyncio.get_running_loop().time() + self._limit_s
        if not joining.done():
            await asyncio.wait([asyncio.wrap_future(joining)])
        while True:
            try:
                return await self._stored(lambda: self._cohorts.leave(name, ticket))
            except Unjudged as error:
                if asyncio.get_running_loop().time() > limit:
                    logger.warning("cohort %s: a caller left, and the store did not learn of it (%s)", name, error)
                    return
                await asyncio.sleep(RETRY_S)

    async def _look(self, names: Sequence[str]) -> list[Look]:
        """Returns how cohorts stand. Who left is told first, since a look says that all other requests of this process wait."""
        if self._leaving:
            await asyncio.wait(set(self._leaving))
        return await self._stored(lambda: self._cohorts.look(names))

    async def _wait(self, name: str, joined: Look, seconds: float) -> bytes:
        try:
            return await self._watch.verdict(name, free=joined.is_free, timeout_s=seconds + GRACE_S)
        except TimeoutError:
            raise Unjudged(f"no vote was there after {seconds:.3g} s; send it again", final=False) from None
        except Lost as lost:
            raise Unjudged(f"{lost}; send it again", final=False) from None

    def _noted(self, settled: Settled) -> Verdict:
        verdict = settled.require()
        self._version = max(self._version, verdict.policy_version)
        return verdict

    async def _stored(self, call: Callable[[], Result]) -> Result:
        """Returns what the store answers, while the event loop goes on."""
        return await _answer(self._threads.submit(call))

    # ---- what may be asked ---------------------------------------------------------------------------------------

    def _asked(self, request: VerdictRequest | CohortMember) -> Asked:
        """Returns what is asked, whole. BadRequest where it makes no sense."""
        own = self._settings
        if request.meta and not own.meta:
            raise BadRequest("meta: this server has no meta-RM; leave it out", field="meta")
        _require_texts({"query": [request.query], "criteria": request.criteria, "reference": [request.reference]})
        return Asked(
            query=request.query,
            votes=self._whole("votes", request.votes, own.votes, own.most_votes),
            meta=own.meta if request.meta is None else request.meta,
            criteria=request.criteria,
            reference=request.reference,
            id=request.id if isinstance(request, VerdictRequest) else "",
        )

    def _require_responses(self, responses: Any, field: str) -> None:
        if not responses:
            raise BadRequest(f"{field}: none; give at least one", field=field)
        if len(responses) > self._settings.most_responses:
            most = self._settings.most_responses
            raise BadRequest(f"{field}: {len(responses)}; this server judges {most} at most beside each other", field=field)
        _require_texts({field: responses})

    def _whole(self, field: str, value: int | None, default: int, most: int | None, *, low: int = 1) -> int:
        """Returns a number of a request, or the server's. BadRequest where it is out of range."""
        number = default if value is None else value
        if type(number) is not int or number < low or (most is not None and number > most):
            allowed = f"{low} or more" if most is None else f"{low} to {most}"
            raise BadRequest(f"{field}: {number}; give a whole number, {allowed}", field=field)
        return number

    def _seconds(self, field: str, value: float | None, default: float) -> float:
        """Returns a time of a request, at most the server's own. BadRequest where it is none."""
        if value is None:
            return default
        if not (isfinite(value) and value > 0):
            raise BadRequest(f"{field}: {value}; give seconds, above 0", field=field)
        return min(value, default)


class _Closed(Exception):
    """A cohort takes no members any more."""


async def _answer(call: Future[Result]) -> Result:
    """Returns what a call to the store returns. Unjudged where the store does not answer."""
    try:
        return await asyncio.wrap_future(call)
    except ServerError as error:
        raise Unjudged(f"the store of verdicts does not answer; send it again ({error})", final=False) from error


def _refusal(refused: Refused) -> Exception:
    if refused.why == "full":
        return TooMany("as many cohorts as this server holds wait for their verdicts; send it again later")
    if refused.why == "closed":
        return _Closed(f"the cohort was closed without slot {refused.slot}: its time to collect was over")
    if refused.why == "taken":
        return SlotTaken(f"slot {refused.slot} of this cohort has another response", field="slot")
    return SlotTaken("another question, size or setting has this group, attempt or idempotency key; give it another")


def _require_texts(fields: Mapping[str, Any]) -> None:
    for field, texts in fields.items():
        for text in texts:
            if not isinstance(text, str):
                raise BadRequest(f"{field}: {type(text).__name__}; give a text", field=field)
            try:
                text.encode()
            except UnicodeEncodeError:
                raise BadRequest(f"{field}: holds half a surrogate pair, which is no text; replace it", field=field) from None


def cohort_name(kind: str, tenant: str, group: str, attempt: int) -> str:
    """Returns the name of a cohort in the store: of letters and digits, whatever a caller calls its group."""
    return sha256("\0".join((kind, tenant, group, str(attempt))).encode()).hexdigest()[:40]
