"""One judge of the server: an engine, a meta-RM beside it, and the cohorts that it has leased.

judge(cohort) ─ lease ─▶ prompts in balanced orders ─ one request a vote ─▶ engine (all cohorts decode together)
                             votes that were kept are not asked again            │ as they come: kept, the lease is longer
             verdict ◀─ finish ◀─ counted, with the meta-RM's choice ◀─ read ◀───┘ until all are there, or the deadline
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar

from actors.generator import Request, ServedEngine
from buffer.cohorts import Cohorts, Lease
from buffer.messages import Completion
from grm.preferences import Question
from grm.scored import counted
from launch.judging.engine_requests import answer_of as answer_of_completion
from launch.judging.engine_requests import encoded, engine_request
from launch.judging.protocol import Answer, JudgeRequest, NotJudged
from launch.judging.read_answers import read_answer
from launch.judging.vote_plan import VotePlan
from launch.serving import metrics
from launch.serving.errors import TooLarge, Unjudged
from launch.serving.protocol import ChatAnswer, ChatRequest, Verdict
from launch.serving.wording import Asked, Settled, answer_bytes, answer_of
from launch.setup.prompt_source import sampling_seed
from launch.setup.tokenizer import Tokenizer

Result = TypeVar("Result")
LEASE_S = 10.0  # after which others take over what a judge has leased that wrote nothing: it renews three times as often
THREADS = 16
logger = logging.getLogger(__name__)


class Meta(Protocol):
    """A meta-RM: `launch.judging.local_meta.MetaScores`."""

    def logits(self, plan: VotePlan, question: Question, samples: Sequence[tuple[tuple[int, ...], Answer]]) -> list[float]:
        """Returns the logit of each judgement, in order."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class _Vote:
    """One judgement that is asked for."""

    order: tuple[int, ...]
    """order[shown place] = index of the response."""
    request: Request
    """What the engine gets."""


class JudgeReplica:
    """Judges cohorts: as many at a time as it is asked for, which its engine decodes together."""

    def __init__(
        self,
        *,
        engine: ServedEngine,
        tokenizer: Tokenizer,
        plan: VotePlan,
        context: int,
        cohorts: Cohorts,
        meta: Meta | None,
        owner: str,
        version: int = 0,
    ) -> None:
        """Takes over the engine: `close` ends it.

        Args:
            engine: Gives the votes.
            tokenizer: The judge's.
            plan: How it is asked, but for the number of votes.
            context: Longest prompt, in tokens.
            cohorts: The store.
            meta: Its meta-RM; None: there is none, and no cohort asks for one.
            owner: Name of this judge among those of the server.
            version: Policy version of the weights that the engine was built with.
        """
        self._engine, self._tokenizer, self._plan, self._context = engine, tokenizer, plan, context
        self._cohorts, self._meta, self._owner, self._version = cohorts, meta, owner, version
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="replica")
        self._meta_thread = ThreadPoolExecutor(1, thread_name_prefix="meta-rm")  # one forward pass at a time

    async def judge(self, cohort: str) -> bytes | None:
        """Returns the verdict of a cohort; None where another judge has it, or no vote came before its deadline."""
        lease = await self._threaded(lambda: self._cohorts.lease(cohort, self._owner, lease_s=LEASE_S))
        if lease is None:
            return None
        with metrics.JUDGED_AT_A_TIME.track_inprogress(), metrics.JUDGING.time():
            try:
                return await self._judge(lease)
            except BaseException:  # the engine died, or the call was cancelled: another judge need not wait for the lease's end
                await asyncio.shield(self._threaded(lambda: self._cohorts.release(lease)))
                raise

    async def _judge(self, lease: Lease) -> bytes | None:
        until = asyncio.get_running_loop().time() + lease.due_s - min(2.0, lease.due_s / 10)  # it is counted and written, too
        asked = Asked.from_bytes(lease.question)
        question, plan = asked.question(lease.responses), replace(self._plan, k=asked.votes)
        try:
            votes = await self._threaded(lambda: self._votes(plan, question))
        except TooLarge as error:
            refused = Settled(slots=lease.slots, verdict=None, refusal="too_large", why=error.message)
            return await self._finish(lease, refused)
        answers = await self._answers(lease, votes, until)
        if not answers:
            metrics.VERDICTS.labels(outcome="late").inc()
            return None
        settled = await self._settled(lease, asked, question, plan, votes, answers)
        _count(settled, len(answers), len(votes), sum(answer.tokens for answer in answers.values()))
        return await self._finish(lease, settled)

    async def chat(self, request: ChatRequest, seconds: float) -> ChatAnswer:
        """Returns answers of the judge as a plain model."""
        asked = JudgeRequest(
            message=self._tokenizer.escape_special_tokens(request.message),
            samples=request.samples,
            temperature=request.temperature,
            max_new_tokens=min(request.max_tokens or self._plan.max_new_tokens, self._plan.max_new_tokens),
            seed=sampling_seed(f"{self._plan.seed}/{request.message}") if request.seed is None else request.seed,
        )
        token_ids = await self._threaded(lambda: self._encoded(asked))
        (future,) = await self._threaded(lambda: self._engine.submit([engine_request(asked, token_ids)]))
        try:
            completions = await asyncio.wait_for(_watched(future), seconds)
        except TimeoutError:
            raise Unjudged(f"it was not answered in {seconds:.0f} s; send it again", final=False) from None
        finally:
            await self._abort([future])
        return ChatAnswer(answers=tuple(map(self._answer, completions)), prompt_tokens=len(token_ids))

    def close(self) -> None:
        """End the engine."""
        self._engine.close()
        self._threads.shutdown(wait=False)

    # ---- votes ---------------------------------------------------------------------------------------------------

    def _votes(self, plan: VotePlan, question: Question) -> dict[int, _Vote]:
        """Returns all votes of a question by place: each with a request of its own, so that one that is cut takes no other
        along. They have the seeds of an evaluation."""
        votes: dict[int, _Vote] = {}
        for asked in plan.votes(question, self._tokenizer.escape_special_tokens):
            token_ids = self._encoded(asked.request)
            for number, place in enumerate(asked.places):
                request = replace(asked.request, samples=1, seed=asked.request.seed + number)
                votes[place] = _Vote(order=asked.permutation, request=engine_request(request, token_ids))
        return votes

    async def _answers(self, lease: Lease, votes: Mapping[int, _Vote], until: float) -> dict[int, Answer]:
        """Returns the votes that are there in time, by place; none where they are lost to this judge."""
        answers = {place: answer_of(text) for place, text in lease.votes.items()}
        loop, failed = asyncio.get_running_loop(), ""
        missing = [place for place in sorted(votes) if place not in answers and until > loop.time()]
        futures = await self._threaded(lambda: self._engine.submit([votes[place].request for place in missing]))
        places = {_watched(future): place for place, future in zip(missing, futures, strict=True)}
        pending = set(places)
        try:
            while pending and (left := until - loop.time()) > 0:
                limit = min(left, LEASE_S / 3)
                done, pending = await asyncio.wait(pending, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
                fresh = {places[each]: self._answer(each.result()[0]) for each in done if each.exception() is None}
                failed = next((str(each.exception()) for each in done if each.exception() is not None), failed)
                kept = {place: answer_bytes(answer) for place, answer in fresh.items()}
                if not await self._threaded(partial(self._cohorts.keep, lease, kept, lease_s=LEASE_S)):
                    logger.warning("cohort %s: its lease was taken over", lease.cohort)
                    return {}
                answers |= fresh
        finally:
            await self._abort([future for future in futures if not future.done()])
        if failed and until > loop.time():  # behind the deadline the others count
            raise RuntimeError(f"the engine lost votes: {failed}")
        if not answers:
            await self._threaded(lambda: self._cohorts.release(lease))
        return answers

    async def _settled(
        self,
        lease: Lease,
        asked: Asked,
        question: Question,
        plan: VotePlan,
        votes: Mapping[int, _Vote],
        answers: Mapping[int, Answer],
    ) -> Settled:
        given = [(votes[place].order, answers[place]) for place in sorted(answers)]
        judgements = [read_answer(plan, order, answer) for order, answer in given]
        logits: Sequence[float | None] | None = None
        if asked.meta and self._meta is not None:
            logits = await self._logits(self._meta, lease, plan, question, given)
        scored = counted([replace(each, text="") if each.scores else each for each in judgements], logits)  # said twice, else
        if scored.scores is None or scored.totals is None or scored.shares is None:
            return Settled(slots=lease.slots, verdict=None, refusal="unjudged", why=_unread(judgements, len(votes)))
        verdict = Verdict(
            request_hash=asked.hash(lease.responses),
            policy_version=max(each.version for each in scored.judgements),
            scores=scored.scores,
            totals=scored.totals,
            shares=scored.shares,
            judgements=scored.judgements,
            asked=len(votes),
            cut=len(votes) - len(answers),
            prompt_tokens=sum(len(ids) for ids in {vote.order: vote.request.token_ids for vote in votes.values()}.values()),
            size=len(lease.responses) + lease.missing,
        )
        return Settled(slots=lease.slots, verdict=verdict)

    async def _logits(
        self, meta: Meta, lease: Lease, plan: VotePlan, question: Question, given: Sequence[tuple[tuple[int, ...], Answer]]
    ) -> Sequence[float]:
        """Returns the meta-RM's logits. Cohorts wait in line for it: the lease is kept meanwhile, or another judge would take
        the cohort over and wait in the same line."""
        run = partial(meta.logits, plan, question, given)
        scored = asyncio.get_running_loop().run_in_executor(self._meta_thread, run)
        while not (await asyncio.wait([scored], timeout=LEASE_S / 3))[0]:
            await self._threaded(lambda: self._cohorts.keep(lease, {}, lease_s=LEASE_S))
        return scored.result()

    async def _finish(self, lease: Lease, settled: Settled) -> bytes | None:
        return await self._threaded(lambda: self._cohorts.finish(lease, settled.to_bytes()))

    def _answer(self, completion: Completion) -> Answer:
        answer = answer_of_completion(completion)
        return replace(answer, version=answer.version or self._version)  # the engine counts from the weights that it began with

    def _encoded(self, request: JudgeRequest) -> tuple[int, ...]:
        token_ids = encoded(self._tokenizer, request, self._context)
        if isinstance(token_ids, NotJudged):
            raise TooLarge(str(token_ids))
        return token_ids

    async def _abort(self, futures: Sequence["Future[tuple[Completion, ...]]"]) -> None:
        if left := [future for future in futures if not future.done()]:
            await self._threaded(lambda: self._engine.abort(left))

    async def _threaded(self, call: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def _count(settled: Settled, answered: int, asked: int, tokens: int) -> None:
    verdict = settled.verdict
    cast, unparsable = (0, answered) if verdict is None else (verdict.cast, verdict.unparsable)
    metrics.VERDICTS.labels(outcome="unjudged" if verdict is None else "short" if verdict.short else "judged").inc()
    for outcome, votes in (("cast", cast), ("unparsable", unparsable), ("cut", asked - answered)):
        metrics.VOTES.labels(outcome=outcome).inc(votes)
    metrics.VOTES.labels(outcome="outvoted").inc(answered - cast - unparsable)  # by the choice of the meta-RM
    metrics.TOKENS.labels(kind="completion").inc(tokens)
    metrics.TOKENS.labels(kind="prompt").inc(0 if verdict is None else verdict.prompt_tokens)


def _watched(future: "Future[Result]") -> "asyncio.Future[Result]":
    """Returns a future of the event loop, whose error is no news when nobody asks for it: it was ended on purpose."""
    watched = asyncio.wrap_future(future)
    watched.add_done_callback(lambda each: each.cancelled() or each.exception())
    return watched


def _unread(judgements: Sequence[object], asked: int) -> str:
    return f"none of {len(judgements)} judgements could be read (of {asked} asked for): the judge wrote no scores"
