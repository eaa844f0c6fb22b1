"""What a judge is asked about a preference: greedy judgements in both orders, and votes in balanced orders."""

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from configs.schema import Config
from grm.judgement import Judgement, ParseFailure, ScoreRange
from grm.lenient import read
from grm.orders import balanced_orders
from grm.preferences import Question
from grm.prompts import Template, example_place, render
from grm.voting import Scores, votes_due
from launch.judging.protocol import Answer, JudgeRequest
from launch.setup.prompt_source import SEEDS, sampling_seed

EscapeTokens = Callable[[str], str]
Kind = Literal["greedy", "vote"]
Place = tuple[Kind, int]  # of a judgement in its row: the i-th of its kind
ALTERNATIVES = 20  # of a score's token: what vLLM and OpenAI's API give at most, and above the ten scores


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One request about a preference, and what its answers are."""

    id: str
    """Id of the preference."""
    kind: Kind
    """A greedy judgement, or votes."""
    permutation: tuple[int, ...]
    """permutation[shown position] = index of the response in the preference's own order."""
    places: tuple[int, ...]
    """Where the answers stand among the row's judgements of their kind."""
    request: JudgeRequest
    """What the judge gets."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VotePlan:
    """How preferences are judged."""

    template: Template
    """The prompt."""
    k: int
    """Sampled judgements of each preference, beside the greedy ones; 0: the greedy ones alone."""
    temperature: float
    """Of the sampled ones, above 0."""
    max_new_tokens: int
    """Tokens of a judgement at most."""
    seed: int
    """Of the permutations and of the sampling."""
    wave: int
    """Preferences asked at a time."""
    both_orders: bool = True
    """Whether a greedy judgement of two responses or more is asked for in the opposite order, too."""
    expected_scores: bool = False
    """Whether greedy judgements are asked for with the alternatives of their score tokens."""
    thinking: bool = False
    """Whether the judge thinks before it judges."""
    clip_scores: bool = False
    """Whether scores outside of 1..10 are taken as the nearest inside."""
    early_stop: bool = False
    """Whether votes that cannot change the best response any more are not asked for."""

    def settings(self) -> dict[str, Any]:
        """Returns what the judgements depend on, beside the judge and the prompt. k and `early_stop` are not among them: the
        first votes are the same whatever they are."""
        return {
            "temperature": self.temperature,
            "seed": self.seed,
            "orders": "balanced",  # older files hold votes whose orders were drawn one by one
            "both_orders": self.both_orders,
            "expected_scores": self.expected_scores,
            "reading": "strict, then lenient",  # older files hold what was read strictly alone
            "thinking": self.thinking,
            "clip_scores": self.clip_scores,
        }

    def read(self, answer: Answer, n: int) -> tuple[Judgement | ParseFailure, bool]:
        """Returns the judgement of n responses in an answer, and whether the strict parser read it (`grm.lenient.read`)."""
        cut_short, scale = answer.finish == "length", ScoreRange.GRADED
        how = {"cut_short": cut_short, "thinks": self.thinking, "clip": self.clip_scores}
        return read(answer.text, n, low=scale.low, high=scale.high, **how)

    def requests(
        self, question: Question, escape_special_tokens: EscapeTokens = str, *, known: Collection[Place] = ()
    ) -> list[Asked]:
        """Returns what is asked for the greedy judgements, then for the votes, without the judgements that are known."""
        greedy = self.greedy(question, escape_special_tokens, known=known)
        return [*greedy, *self.votes(question, escape_special_tokens, known=known)]

    def places(self, question: Question) -> list[Place]:
        """Returns the judgements that a preference gets."""
        kinds: tuple[tuple[Kind, int], ...] = (("greedy", self.greedy_judgements(question)), ("vote", self.k))
        return [(kind, place) for kind, count in kinds for place in range(count)]

    def greedy(
        self, question: Question, escape_special_tokens: EscapeTokens = str, *, known: Collection[Place] = ()
    ) -> list[Asked]:
        """Returns what is asked for the greedy judgement, and for that of the opposite order; the orders depend on the seed
        and the question alone."""
        rng = random.Random(f"greedy/{self.seed}/{question.id}")
        orders = balanced_orders(len(question.responses), self.greedy_judgements(question), rng)
        return self._asked(question, "greedy", orders, 0.0, escape_special_tokens, known)

    def greedy_judgements(self, question: Question) -> int:
        """Returns how many greedy judgements a preference gets."""
        return 1 + (self.both_orders and len(question.responses) > 1)

    def votes(
        self, question: Question, escape_special_tokens: EscapeTokens = str, *, known: Collection[Place] = ()
    ) -> list[Asked]:
        """Returns what is asked for the votes, in balanced orders; those that share an order are asked for together. The first
        votes have the same orders whatever k is, and the i-th of an order has the i-th seed: more can be asked for later.
        """
        orders = balanced_orders(len(question.responses), self.k, random.Random(f"vote/{self.seed}/{question.id}"))
        return self._asked(question, "vote", orders, self.temperature, escape_special_tokens, known)

    def votes_due(self, n: int, cast: Sequence[Scores | None]) -> int:
        """Returns how many votes are asked for next, at most: all that were not answered, or with `early_stop` those without
        which nobody can be sure of the best (`grm.voting.votes_due`).

        Args:
            n: Number of responses. A single one has no best, so all votes are asked for.
            cast: The votes that were answered.
        """
        left, scale = self.k - len(cast), ScoreRange.GRADED
        return votes_due(cast, left, low=scale.low, high=scale.high) if self.early_stop and n > 1 else left

    def message(self, question: Question, permutation: Sequence[int], escape_special_tokens: EscapeTokens = str) -> str:
        """Returns the text of a prompt, on the scale 1..10 for every n. escape_special_tokens: see `render`.

        All prompts of a question show one example: a judge that copies its order favours a place, which other orders undo.
        """
        return render(
            question,
            permutation,
            self.template,
            example=example_place(len(permutation), f"{self.seed}/{question.id}"),
            score_range=ScoreRange.GRADED,
            escape_special_tokens=escape_special_tokens,
        )

    def _asked(
        self,
        question: Question,
        kind: Kind,
        orders: Sequence[tuple[int, ...]],
        temperature: float,
        escape_special_tokens: EscapeTokens,
        known: Collection[Place],
    ) -> list[Asked]:
        asked = []
        for permutation in dict.fromkeys(orders):
            places = [place for place, order in enumerate(orders) if order == permutation]
            seed = sampling_seed(f"{self.seed}/{question.id}/{permutation}")
            for run in _runs([(kind, place) not in known for place in places]):
                request = JudgeRequest(
                    message=self.message(question, permutation, escape_special_tokens),
                    samples=len(run),
                    temperature=temperature,
                    max_new_tokens=self.max_new_tokens,
                    seed=(seed + run[0]) % SEEDS,
                    alternatives=ALTERNATIVES if self.expected_scores and kind == "greedy" else 0,
                )
                own = tuple(places[i] for i in run)
                asked.append(Asked(id=question.id, kind=kind, permutation=permutation, places=own, request=request))
        return asked


def _runs(missing: Sequence[bool]) -> list[range]:
    """Returns where neighbours are missing: those of a run have seeds in a row.

    >>> _runs([True, False, True, True])
    [range(0, 1), range(2, 4)]
    """
    starts = [i for i, each in enumerate(missing) if each and (i == 0 or not missing[i - 1])]
    ends = [i + 1 for i, each in enumerate(missing) if each and (i + 1 == len(missing) or not missing[i + 1])]
    return [range(start, end) for start, end in zip(starts, ends, strict=True)]


def vote_plan(config: Config, template: Template, k: int) -> VotePlan:
    """Returns the plan of the config; a wave fills every engine twice over."""
    sequences = config.rollout.workers * config.rollout.max_groups * config.rollout.samples
    return VotePlan(
        template=template,
        k=k,
        temperature=config.eval.temperature,
        max_new_tokens=config.rollout.max_new_tokens,
        seed=config.run.seed,
        wave=max(1, 2 * sequences // (k + 1 + config.eval.both_orders)),
        both_orders=config.eval.both_orders,
        expected_scores=config.eval.expected_scores,
        thinking=config.prompts.thinking,
        clip_scores=config.eval.clip_scores,
    )
