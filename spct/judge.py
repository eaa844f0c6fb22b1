"""`Judge`: a generative reward model that is open, in this process or behind a server.

judge.score(query, responses, votes=8, meta=True) ─▶ Question ─▶ worker (one thread; asked meanwhile, judged together) ─▶ Scored
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from types import TracebackType
from typing import Any, Literal, Self

from grm.preferences import Question, conversation, question_id
from grm.scored import Scored
from spct.results import Comparison
from spct.rewards import RewardFunction, query_of, reward_function
from spct.worker import Asked, Worker

Query = str | Sequence[Mapping[str, Any]]  # a text, or the messages of a conversation
Engine = Literal["auto", "vllm", "transformers"]
Device = Literal["auto", "cpu", "cuda"]
VOTES = 8


class Judge:
    """A judge, to be asked from any thread and from any event loop. A context manager, of both kinds.

    What is asked while it judges is judged together as soon as it can be, so ask for much at a time: `score_many`, or many
    `score_async` at once.
    """

    def __init__(
        self,
        source: str | PathLike[str],
        *,
        model: str = "",
        meta_rm: str | PathLike[str] = "",
        engine: Engine = "auto",
        device: Device = "auto",
        seed: int = 0,
        overrides: Sequence[str] = (),
    ) -> None:
        """Opens the judge: loads its model, or asks the server whether it serves it.

        Args:
            source: A run (`runs/mine`, or its id), a checkpoint, a model folder, a hub name, or the address of an
                OpenAI-compatible server (`http://host:port/v1`).
            model: Name of the served model; with a server only.
            meta_rm: Folder of a meta-RM that chooses which judgements vote. A run knows its own.
            engine: `vllm`, `transformers` (one prompt at a time), or `auto`: vLLM where it is installed.
            device: `cpu`, `cuda`, or `auto`: a GPU where torch sees one.
            seed: Of orders and sampling. The same question has the same judgements under the same seed.
            overrides: Settings as on the command line, as `prompts.style=compact`; they count more than what the judge's
                folder says of itself.

        Raises:
            ConfigError: The source or a setting cannot be used.
            NotJudged: The server does not answer, or does not serve the model.
        """
        from launch.judging.prepared_judge import prepare
        from spct.opening import JudgeOpening

        prepared = prepare(
            str(source), model=model, meta_rm=str(meta_rm), engine=engine, device=device, seed=seed, overrides=overrides
        )
        self._together, self._meta_rm = prepared.responses, prepared.found.meta_rm
        self._worker = Worker(JudgeOpening(prepared))

    # ---- judging -------------------------------------------------------------------------------------------------

    def score(
        self,
        query: Query,
        responses: Sequence[str],
        *,
        votes: int = VOTES,
        meta: bool = False,
        early_stop: bool = False,
        reference: str = "",
        criteria: Sequence[str] = (),
        id: str = "",
    ) -> Scored:
        """Returns the scores of the responses. Where nothing was judged they are None, and `error` says why.

        Args:
            query: The query, or the messages of a conversation (`{"role", "content"}`).
            responses: One or more.
            votes: Judgements that are sampled, in balanced orders of the responses; 0: greedy ones, in two opposite
                orders.
            meta: Let the meta-RM choose the better half of the judgements.
            early_stop: Ask for no vote that cannot change `best` any more, which is then that of all votes. Scores, shares and
                the order behind the best are of the votes that were asked for. It takes a few rounds in place of one. A single
                response gets all its votes.
            reference: A right answer that the judge is shown.
            criteria: What it is to judge by.
            id: What orders and sampling depend on beside the seed. By default that is the question itself; with a row's id the
                judgements are those of `spct evaluate`.

        Raises:
            ConfigError: `meta` without a meta-RM.
            ValueError: A question without a response or with something that is no text, a number of votes below 0, or
                `early_stop` where there is nothing to stop, or with `meta`.
        """
        asked = question(query, responses, reference=reference, criteria=criteria, id=id)
        return self.score_many([asked], votes=votes, meta=meta, early_stop=early_stop)[0]

    def score_many(
        self, questions: Sequence[Question], *, votes: int = VOTES, meta: bool = False, early_stop: bool = False
    ) -> list[Scored]:
        """Returns the scores of each question (`spct.judge.question` makes one), judged together. Errors as of `score`."""
        return self._worker.ask(self._asked(questions, votes, meta, early_stop)).result()

    async def score_async(self, query: Query, responses: Sequence[str], **options: Any) -> Scored:
        """As `score`, in an event loop."""
        how = {name: options.pop(name) for name in ("votes", "meta", "early_stop") if name in options}
        return (await self.score_many_async([question(query, responses, **options)], **how))[0]

    async def score_many_async(
        self, questions: Sequence[Question], *, votes: int = VOTES, meta: bool = False, early_stop: bool = False
    ) -> list[Scored]:
        """As `score_many`, in an event loop."""
        return await asyncio.wrap_future(self._worker.ask(self._asked(questions, votes, meta, early_stop)))

    def rank(self, query: Query, responses: Sequence[str], **options: Any) -> tuple[int, ...]:
        """Returns the indices of the responses, the best first; options as of `score`. NotJudged where nothing was judged,
        ValueError with `early_stop`, which makes sure of the best alone."""
        if options.get("early_stop"):
            raise ValueError("early_stop: the votes that it spares may change the order behind the best; leave it out")
        ranking = judged(self.score(query, responses, **options)).ranking
        assert ranking is not None  # it was judged
        return ranking

    def compare(self, query: Query, first: str, second: str, **options: Any) -> Comparison:
        """Returns which of two responses is better; options as of `score`. NotJudged where nothing was judged."""
        scored = judged(self.score(query, [first, second], **options))
        assert scored.scores is not None  # it was judged
        return Comparison(winner=scored.best, margin=scored.scores[0] - scored.scores[1], scored=scored)

    def _asked(self, questions: Sequence[Question], votes: int, meta: bool, early_stop: bool) -> list[Asked]:
        """Returns what the worker is asked. What is wrong with it is raised here: the worker judges for other callers, too."""
        require_votes(votes, meta=meta, early_stop=early_stop)
        if meta:
            from launch.judging.prepared_judge import require_meta_rm

            require_meta_rm(self._meta_rm)
        return [Asked(question=each, votes=votes, meta=meta, early_stop=early_stop) for each in questions]

    # ---- as a reward ---------------------------------------------------------------------------------------------

    def reward_fn(self, *, votes: int = 1, meta: bool = False, together: int = 0) -> RewardFunction:
        """Returns a reward function for TRL: (prompts, completions) -> mean scores 1..10, None where nothing was judged.

        The completions of one prompt are judged beside each other, as the judge was trained. Where none of a call was judged,
        a RuntimeWarning says why; the next call asks again.

        Args:
            votes: As of `score`.
            meta: As of `score`.
            together: Completions of one prompt that are judged in one prompt at most. 0: the most responses that the judge
                saw in training, or all of them where it does not say.
        """
        return reward_function(self.score_many, votes=votes, meta=meta, together=together or self._together)

    def compute_score(
        self, data_source: str, solution_str: str, ground_truth: Any, extra_info: Mapping[str, Any] | None = None, **_: Any
    ) -> float:
        """Returns the score 1..10 of one solution, with the signature of verl's `compute_score`.

        verl passes no prompt: the query is `extra_info["question"]`, or `extra_info["prompt"]`, of the data set.

        Raises:
            NotJudged: It could not be judged. It has no score then, and verl takes no None.
            KeyError: The data set's `extra_info` has no query.
        """
        scored = judged(self.score(query_of(extra_info or {}), [solution_str], votes=1))
        assert scored.scores is not None  # it was judged
        return scored.scores[0]

    # ---- the end -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End the engine, or the connections; harmless when repeated. The judge cannot be asked afterwards."""
        self._worker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)


def question(
    query: Query, responses: Sequence[str], *, reference: str = "", criteria: Sequence[str] = (), id: str = ""
) -> Question:
    """Returns a question for `Judge.score_many`. Arguments and errors as of `Judge.score`."""
    if isinstance(responses, str):
        raise ValueError("responses: a text; give a list of them")
    text, given = _text_of(query), _texts("responses", responses)
    shown = (criteria,) if isinstance(criteria, str) else _texts("criteria", criteria)
    for field, value in (("reference", reference), ("id", id)):
        if not isinstance(value, str):
            raise ValueError(f"{field}: {type(value).__name__}; give a text")
    name = id or question_id(text, given, reference=reference, criteria=shown)
    return Question(id=name, query=text, responses=given, reference=reference, criteria=shown)


def _text_of(query: Query) -> str:
    if isinstance(query, str):
        return query
    messages = _listed("query (prompt)", query, "a text, or the messages of a conversation")
    if not messages:
        raise ValueError("query (prompt): no message; give at least one, or a text")
    for number, each in enumerate(messages, start=1):
        if not isinstance(each, Mapping) or not all(isinstance(each.get(field), str) for field in ("role", "content")):
            raise ValueError(f"query (prompt): message {number}: give it role and content, both of them texts")
    return conversation((each["role"], each["content"]) for each in messages)


def _texts(field: str, values: object) -> tuple[str, ...]:
    texts = _listed(field, values, "a list of texts")
    for number, each in enumerate(texts, start=1):
        if not isinstance(each, str):
            raise ValueError(f"{field}: number {number} is {type(each).__name__}; give a text")
    return tuple(texts)


def _listed(field: str, values: object, wanted: str) -> list[Any]:
    if isinstance(values, Mapping) or not isinstance(values, Iterable):
        raise ValueError(f"{field}: {type(values).__name__}; give {wanted}")
    return list(values)


def judged(scored: Scored) -> Scored:
    """Returns it. NotJudged where nothing was judged."""
    if scored.scores is None:
        from launch.judging.protocol import NotJudged

        raise NotJudged(scored.error)
    return scored


def require_votes(votes: int, *, meta: bool = False, early_stop: bool = False) -> None:
    """ValueError for a number of votes below 0, and for an early stop of none, or of votes that a meta-RM chooses among."""
    if votes < 0:
        raise ValueError(f"votes = {votes}: give 0 for greedy judgements, or how many are to vote")
    if early_stop and not votes:
        raise ValueError("early_stop: votes = 0 asks for greedy judgements, of which none can be spared; leave it out")
    if early_stop and meta:
        raise ValueError("early_stop: the meta-RM chooses among all votes, so none can be spared; leave out early_stop or meta")
