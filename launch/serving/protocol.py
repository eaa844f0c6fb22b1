"""What the reward server is asked, and what it answers: for its core and for every interface over it.

    an interface (its own JSON) ─▶ VerdictRequest | CohortMember | ChatRequest ─▶ JudgeService ─▶ Verdict | MemberVerdict | ...
                                                                                     └─▶ a ServingError: never a number

An interface is a function of a `JudgeService` that returns the routes of one protocol (`Interface`); `interfaces.py` lists
them. The app has checked the caller's key before a route runs: who asks stands in `request.state.tenant`, and
`request.state.request_id` names the request in logs. A `ServingError` that an interface lets through is answered with its
status and `{"error": {"type", "message", "field"}}`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from grm.preferences import conversation
from grm.scored import Judgement
from launch.judging.protocol import Answer
from launch.serving.errors import BadRequest

if TYPE_CHECKING:
    from fastapi import APIRouter


@dataclass(frozen=True, kw_only=True, slots=True)
class VerdictRequest:
    """Responses that are judged beside each other, all there at once."""

    tenant: str
    """Whose request it is (the name beside its key); nothing is shared between tenants."""
    query: str
    """The query, or a conversation as `query_text` writes it."""
    responses: tuple[str, ...]
    """One or more."""
    votes: int | None = None
    """Judgements to sample, k >= 1; None: as many as the server was started with."""
    meta: bool | None = None
    """Whether the meta-RM chooses which of them vote; None: where the server has one."""
    criteria: tuple[str, ...] = ()
    """Principles of the caller's that the judge is shown."""
    reference: str = ""
    """A right answer that the judge is shown; "": none."""
    deadline_s: float | None = None
    """In which it must be answered, in seconds from now; None: as the server was started."""
    id: str = ""
    """What orders and sampling depend on beside the seed; "": the question itself, as in `spct.Judge`."""
    idempotency_key: str = ""
    """Requests with one key and the same content are one request. "": those with the same content are. Another content under a
    key that is taken is refused (`SlotTaken`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CohortMember:
    """One response of a group whose others come in requests of their own."""

    tenant: str
    """As of `VerdictRequest`."""
    query: str
    """As of `VerdictRequest`; the same for all members."""
    response: str
    """The response."""
    group: str = ""
    """Key of the group, of the caller's; "": the query is the key, and a new cohort begins when one is closed."""
    attempt: int = 0
    """Which try at the group it is, >= 0: another attempt is another cohort."""
    slot: int | None = None
    """Its place in the group, 0..size-1; None: the next free one (a response that is there already has its place)."""
    size: int | None = None
    """Members of the group, >= 1; None: as the server was started."""
    votes: int | None = None
    """As of `VerdictRequest`; the same for all members, like `meta`, `criteria` and `reference`."""
    meta: bool | None = None
    """As of `VerdictRequest`."""
    criteria: tuple[str, ...] = ()
    """As of `VerdictRequest`."""
    reference: str = ""
    """As of `VerdictRequest`."""
    deadline_s: float | None = None
    """As of `VerdictRequest`."""
    collect_s: float | None = None
    """How long it waits for the others, in seconds; then those that came are judged. None: as the server was started."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What the votes say about responses. Only what was judged has one: its numbers are never made up."""

    request_hash: str
    """Of query, responses, votes, criteria and all else that it depends on, in hexadecimal."""
    policy_version: int
    """The newest policy version that wrote a token of its votes."""
    scores: tuple[float, ...]
    """Mean score 1..10 of each response over the judgements that voted."""
    totals: tuple[float, ...]
    """Their sum: the vote of arXiv:2504.02495."""
    shares: tuple[float, ...]
    """Share of the votes, 0..1, in which each response is the best; a tie counts in equal parts."""
    judgements: tuple[Judgement, ...]
    """Those that were answered in time, in the order in which they were asked for; `voted` says which count."""
    asked: int
    """Judgements that were asked for, k."""
    cut: int
    """Those of them that the deadline cut off."""
    prompt_tokens: int
    """Tokens of all prompts: one that k judgements share counts once."""
    size: int
    """Responses that were expected."""

    @property
    def cast(self) -> int:
        """Judgements that voted."""
        return sum(each.voted for each in self.judgements)

    @property
    def unparsable(self) -> int:
        """Judgements that were answered and could not be read."""
        return sum(each.scores is None for each in self.judgements)

    @property
    def missing(self) -> int:
        """Responses that were expected and did not come."""
        return max(0, self.size - len(self.scores))

    @property
    def short(self) -> bool:
        """Whether responses were missing when it was judged."""
        return self.missing > 0

    @property
    def completion_tokens(self) -> int:
        """Tokens of all judgements."""
        return sum(each.tokens for each in self.judgements)

    @property
    def vote_scores(self) -> tuple[tuple[float, ...], ...]:
        """The scores of each judgement that voted."""
        return tuple(each.scores for each in self.judgements if each.voted and each.scores is not None)


@dataclass(frozen=True, kw_only=True, slots=True)
class MemberVerdict:
    """A cohort's verdict, seen by one of its members."""

    verdict: Verdict
    """Of all members that came."""
    place: int
    """Where the member's response stands in it."""
    group: str
    """Key of its group: the caller's, or the one that was made of the query."""
    attempt: int
    """As it was asked for, or which cohort of the query it is."""
    slot: int
    """As it was asked for, or the one that it got."""

    @property
    def score(self) -> float:
        """Mean score 1..10 of the member's response."""
        return self.verdict.scores[self.place]

    @property
    def total(self) -> float:
        """Its summed score."""
        return self.verdict.totals[self.place]

    @property
    def share(self) -> float:
        """Its share of the votes, 0..1."""
        return self.verdict.shares[self.place]

    @property
    def vote_scores(self) -> tuple[float, ...]:
        """Its score in each judgement that voted."""
        return tuple(scores[self.place] for scores in self.verdict.vote_scores)


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatRequest:
    """A message that the judge answers as a plain model: no template of ours stands around it, and nothing is kept."""

    tenant: str
    """As of `VerdictRequest`."""
    message: str
    """The user's message; a conversation as `query_text` writes it."""
    samples: int = 1
    """Answers, >= 1."""
    temperature: float = 1.0
    """Of the sampling; 0 is greedy."""
    max_tokens: int | None = None
    """Tokens of an answer at most; None: as of a judgement."""
    seed: int | None = None
    """The same seed gives the same answers; None: a seed of the message."""
    deadline_s: float | None = None
    """As of `VerdictRequest`. An answer that is not whole by then is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatAnswer:
    """What the judge wrote."""

    answers: tuple[Answer, ...]
    """One for each sample."""
    prompt_tokens: int
    """Tokens of the prompt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """How far the shares of so many votes are probabilities, as `launch/evaluate.py` measured it (`grm.vote_shares`)."""

    votes: int
    """Votes behind each share, k."""
    brier: float
    """Brier score, 0 (sure and right) to 1 (sure and wrong)."""
    brier_interval: tuple[float, float]
    """Its 95 % interval."""
    ece: float
    """Expected calibration error, 0..1: above 0 by chance, the more so the fewer preferences."""
    ece_interval: tuple[float, float]
    """Its 95 % interval."""
    preferences: int
    """Labelled preferences behind it."""
    data: tuple[str, ...]
    """Where they are of."""
    policy_version: int
    """Of the weights that were measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """What a server serves, and how it was started."""

    model: str
    """Name of the judge."""
    votes: int
    """k where a request names none."""
    meta: bool
    """Whether it has a meta-RM."""
    size: int
    """Members of a cohort where a request names no size."""
    collect_s: float
    """How long a cohort waits for its members."""
    deadline_s: float
    """In which a request is answered."""
    policy_version: int
    """The newest that a verdict of this HTTP worker named; that of the start before its first."""
    calibration: Calibration | None = None
    """How far vote shares are probabilities; None: it was not measured."""


class JudgeService(Protocol):
    """The core of the server, as interfaces see it. Every method raises a `ServingError` for what has no answer."""

    def served(self) -> Served:
        """Returns what is served."""
        ...

    async def judge(self, request: VerdictRequest) -> Verdict:
        """Returns the verdict on responses. The same request again gets the same verdict, without new votes."""
        ...

    async def member(self, member: CohortMember) -> MemberVerdict:
        """Waits for the member's cohort, and returns its verdict. The same response in the same slot again gets the same."""
        ...

    async def chat(self, request: ChatRequest) -> ChatAnswer:
        """Returns answers of the judge as a plain model."""
        ...


class Interface(Protocol):
    """One protocol of callers."""

    def __call__(self, service: JudgeService) -> "APIRouter":
        """Returns its routes."""
        ...


def query_text(query: str | Sequence[Mapping[str, Any]], *, field: str = "query") -> str:
    """Returns a query as the judge reads it: a text, or the messages of a conversation as named turns.

    Raises:
        BadRequest: It is neither, or a message has no role and content that are texts.
    """
    if isinstance(query, str):
        return query
    messages: list[Any] = list(query) if isinstance(query, Sequence) else []
    if not messages:
        raise BadRequest(f"{field}: give a text, or one message or more", field=field)
    for number, each in enumerate(messages, start=1):
        if not isinstance(each, Mapping) or not all(isinstance(each.get(name), str) for name in ("role", "content")):
            raise BadRequest(f"{field}: message {number}: give it role and content, both of them texts", field=field)
    return conversation((each["role"], each["content"]) for each in messages)
