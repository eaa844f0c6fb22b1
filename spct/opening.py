"""A judge that is open: questions become requests, answers become scores.

Asked ─▶ requests in balanced orders ─▶ judge ─▶ read ─▶ counted, with the meta-RM's choice where it is asked for ─▶ Scored
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from configs.schema import Config
from grm.scored import Scored, counted, not_judged
from launch.judging.local_meta import MetaScores
from launch.judging.prepared_judge import ClosableJudge, PreparedJudge
from launch.judging.protocol import Answer, NotJudged, one_by_one
from launch.judging.read_answers import read_answer
from launch.judging.vote_plan import Asked as AskedOnce
from launch.judging.vote_plan import VotePlan
from spct.worker import Asked, Opened

Sample = tuple[tuple[int, ...], Answer | NotJudged]
"""The order in which a judgement has read the responses, and its answer."""


class JudgeOpening:
    """A judge that was checked. Its worker opens it."""

    def __init__(self, prepared: PreparedJudge) -> None:
        """Starts nothing yet."""
        self._prepared = prepared

    @property
    def start_s(self) -> float:
        """Time that opening it may take, in seconds."""
        return self._prepared.start_s

    def open(self) -> Opened:
        """Returns it, open."""
        own = self._prepared
        return OpenJudge(own.open(), own.plan, own.config, own.found.meta_rm)


class OpenJudge:
    """A judge whose engine runs. Its meta-RM is loaded when it is first asked for."""

    def __init__(self, judge: ClosableJudge, plan: VotePlan, config: Config, meta_rm: str) -> None:
        """Takes over the judge: `close` ends it.

        Args:
            judge: Gives the answers.
            plan: How it is asked, but for the number of votes.
            config: Of its machine.
            meta_rm: Folder of its meta-RM; "": none, and nobody asks for one (`require_meta_rm`).
        """
        self._judge, self._plan, self._config, self._meta_rm = judge, plan, config, meta_rm
        self._meta: MetaScores | None = None

    def judge(self, asked: Sequence[Asked]) -> list[Scored]:
        """Returns the scores of each question. One of which only some judgements were answered is scored by those."""
        meta = self._meta_scores() if any(each.meta for each in asked) else None
        scored = []
        for each, samples in zip(asked, self._samples(asked), strict=True):
            missed = [answer for _, answer in samples if isinstance(answer, NotJudged)]
            if len(missed) == len(samples):
                scored.append(not_judged(str(missed[0])))
                continue
            logits = self._logits(meta, each, samples) if meta is not None and each.meta else None
            found = counted([read_answer(self._plan, order, answer) for order, answer in samples], logits)
            scored.append(replace(found, spared=max(0, each.votes - len(samples))))
        return scored

    def close(self) -> None:
        """End the engine, or the connections."""
        self._judge.close()

    def _samples(self, asked: Sequence[Asked]) -> list[list[Sample]]:
        """Returns the judgements of each question: with `early_stop` in rounds, as few of them as make sure of the best."""
        placed: list[dict[int, Sample]] = [{} for _ in asked]
        while requests := [(own, one) for own, each in zip(placed, asked, strict=True) for one in self._requests(each, own)]:
            answers = self._judge.judge([one.request for _, one in requests])
            for (own, one), given in zip(requests, answers, strict=True):
                for place, answer in zip(one.places, one_by_one(given, len(one.places)), strict=True):
                    own[place] = one.permutation, answer
        return [[own[place] for place in sorted(own)] for own in placed]

    def _requests(self, asked: Asked, placed: Mapping[int, Sample]) -> Sequence[AskedOnce]:
        """Returns what is asked about a question next, beside the judgements that were asked for."""
        if len(placed) >= max(1, asked.votes):
            return []
        if not asked.votes:
            return self._plan.greedy(asked.question, self._judge.escape_special_tokens)
        plan = replace(self._plan, k=asked.votes, early_stop=asked.early_stop)
        cast = [read_answer(self._plan, *sample).scores for sample in placed.values() if isinstance(sample[1], Answer)]
        due = plan.votes_due(len(asked.question.responses), cast)
        wanted = range(len(placed), min(len(placed) + due, plan.k))
        known = [place for place in plan.places(asked.question) if place[1] not in wanted]
        return plan.votes(asked.question, self._judge.escape_special_tokens, known=known)

    def _logits(self, meta: MetaScores, asked: Asked, samples: Sequence[Sample]) -> list[float | None]:
        """Returns the meta-RM's logit of each judgement; None for one that was not given."""
        given = [(order, answer) for order, answer in samples if isinstance(answer, Answer)]
        logits = iter(meta.logits(self._plan, asked.question, given))
        return [next(logits) if isinstance(answer, Answer) else None for _, answer in samples]

    def _meta_scores(self) -> MetaScores:
        if self._meta is None:
            self._meta = MetaScores(self._config, self._meta_rm)
        return self._meta
