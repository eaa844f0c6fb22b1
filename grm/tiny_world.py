"""The tiny world: labelled preferences that have the method's structure in small, deterministic by seed.

A query asks about one of eight topics and carries a *cue* that decides which of four principles counts. Each
response shows four attributes, drawn independently and uniformly from the levels 0..3:

    politeness   the opening words              accuracy   the claim about the topic
    format       the marks before the claim     brevity    the number of filler remarks after it (3 - level)

    label (n >= 2) = the response that is uniquely best by the principle that counts
    label (n = 1)  = 1 if its level by that principle is 2 or 3, else 0

A judge that always applies one principle is right in 1/4 of the queries and at chance in the rest; "always the shortest" is
such a judge (brevity). Training and held-out items are disjoint: an item is its topic, its cue and the unordered level
profiles of its responses, and the hash of these decides its side (1 in 5 is held out).

`loose_judge` writes the judgements that the base policy is taught on (`launch/dev/tiny_base.py`). It reads the levels from the
text as any reader could, but chooses its principles mostly by habit, and its scores slip now and then. `unprincipled_judge`
judges in the same way and names no principle.
"""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from grm.judgement import Judgement, ScoreRange, write
from grm.preferences import Preference, Question

PRINCIPLES = ("accuracy", "brevity", "politeness", "format")
LEVELS = ("bad", "weak", "good", "great")
SIZES = {1: 0.15, 2: 0.60, 3: 0.15, 4: 0.10}  # share of preferences with n responses

CUES = {
    "accuracy": (
        "The facts must be right.",
        "It goes into an exam.",
        "A mistake would be costly.",
        "I will check every word.",
    ),
    "brevity": ("I have only a minute.", "Keep it short.", "I am in a hurry.", "Just a few words."),
    "politeness": (
        "My grandmother will read it.",
        "Be kind to me.",
        "Mind your manners.",
        "It is for a shy guest.",
    ),
    "format": (
        "I will print it as a list.",
        "Lay it out neatly.",
        "It goes on a poster.",
        "Make it easy to scan.",
    ),
}

# question -> the claims of level 0, 1, 2 and 3
TOPICS = {
    "How many days are in a week?": ("fifty", "nine", "six", "seven"),
    "What do bees make?": ("bricks", "milk", "syrup", "honey"),
    "What is the capital of France?": ("Mars", "Tokyo", "Versailles", "Paris"),
    "What colour is a ripe lemon?": ("black", "blue", "orange", "yellow"),
    "When do most owls hunt?": ("never", "noon", "dusk", "night"),
    "What do cows eat?": ("iron", "fish", "corn", "grass"),
    "What turns ice into water?": ("music", "snow", "sunlight", "heat"),
    "What moves a sailing boat?": ("poetry", "coal", "air", "wind"),
}
STEMS = ("It is {}.", "The answer is {}.", "I would say {}.")
OPENINGS = (
    ("What a silly question.", "Not you again.", "Look it up yourself."),
    ("Well.", "Fine.", "So you ask."),
    ("Sure.", "Of course.", "Certainly."),
    ("Thank you for asking.", "It is a pleasure to help.", "Welcome, dear friend."),
)
MARKS = ((",, ", ";; "), ("", ""), ("- ", "* "), ("# Answer\n- ", "# Answer\n* "))
FILLERS = (  # of the first, the second and the third remark
    ("As people say.", "By the way.", "To be frank."),
    ("All in all.", "One way or another.", "In some sense."),
    ("If you follow me.", "When all is said.", "And so forth."),
)

HABIT = {"accuracy": 0.52, "brevity": 0.20, "politeness": 0.16, "format": 0.12}
HEED = 0.1  # P(principle | cue) = (1 - HEED) * HABIT + HEED * [the cue's principle]
SECOND = 0.5  # chance of a second, lighter principle
JITTER = 0.2  # chance that a score is off by one
SLIP = 0.1  # chance that a score has nothing to do with the critique

Levels = dict[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """A preference before it is put into words."""

    topic: str
    """A key of TOPICS."""
    cue: str
    """One of CUES[principle]."""
    principle: str
    """The principle that counts."""
    levels: tuple[Levels, ...]
    """One profile per response: a level 0..3 for each principle."""

    @property
    def label(self) -> int | None:
        """The label by the world's law; None if no response is uniquely best."""
        return verdict(self.levels, self.principle)

    @property
    def held_out(self) -> bool:
        """Whether it is on the held-out side."""
        profiles = sorted(tuple(profile[name] for name in PRINCIPLES) for profile in self.levels)
        digest = hashlib.sha256(repr((self.topic, self.cue, profiles)).encode()).digest()
        return digest[0] % 5 == 0


def verdict(levels: Sequence[Levels], principle: str) -> int | None:
    """Return the label if `principle` counts: the world's law. None if no response is uniquely best (n >= 2)."""
    marks = [profile[principle] for profile in levels]
    if len(marks) == 1:
        return int(marks[0] >= 2)
    return marks.index(max(marks)) if marks.count(max(marks)) == 1 else None


def preferences(seed: int, count: int, n: int | None = None, *, held_out: bool = False) -> list[Preference]:
    """Return `count` preferences of the training or the held-out side, in the mix SIZES or all with `n` responses.

    The subset of a preference is the principle that counts. ValueError for n outside 1..4 or count < 0.
    """
    if count < 0 or (n is not None and n not in SIZES):
        raise ValueError(f"the tiny world makes n in {tuple(SIZES)} and count >= 0, got n={n} count={count}")
    side = "heldout" if held_out else "train"
    rng = random.Random(f"tiny/{side}/{seed}/{n or 'mixed'}")
    drawn = []
    for index in range(count):
        size = n or rng.choices(tuple(SIZES), weights=tuple(SIZES.values()))[0]
        item = next(item for item in _draws(size, rng) if item.held_out is held_out)
        label = item.label
        assert label is not None
        question = Question(
            id=f"tiny-{side}-{seed}-{index}",
            query=_query(item, rng),
            responses=tuple(_response(item.topic, profile, rng) for profile in item.levels),
        )
        drawn.append(Preference(question=question, label=label, subset=item.principle))
    return drawn


def _draws(n: int, rng: random.Random) -> Iterator[Item]:
    """Yield items with n responses and a label, without end; attributes that do not count stay independent of the label."""
    while True:
        topic, principle = rng.choice(tuple(TOPICS)), rng.choice(PRINCIPLES)
        levels = tuple({name: rng.randrange(4) for name in PRINCIPLES} for _ in range(n))
        item = Item(topic=topic, cue=rng.choice(CUES[principle]), principle=principle, levels=levels)
        if item.label is not None:
            yield item


def _query(item: Item, rng: random.Random) -> str:
    return " ".join(rng.sample((item.topic, item.cue), 2))


def _response(topic: str, levels: Levels, rng: random.Random) -> str:
    opening = rng.choice(OPENINGS[levels["politeness"]])
    claim = rng.choice(STEMS).format(TOPICS[topic][levels["accuracy"]])
    marks = rng.choice(MARKS[levels["format"]])
    fillers = [rng.choice(variants) for variants in FILLERS[: 3 - levels["brevity"]]]
    return f"{opening}\n{marks}{' '.join((claim, *fillers))}"


def principle_of(query: str) -> str:
    """Return the principle that counts, read from the query's cue. ValueError for a query of another world."""
    for principle, cues in CUES.items():
        if any(cue in query for cue in cues):
            return principle
    raise ValueError(f"no cue of the tiny world in the query {query!r}")


def levels_of(query: str, response: str) -> Levels:
    """Return the level 0..3 of `response` by each principle, read from the text alone."""
    opening, body = response.split("\n", 1)
    claims = next(claims for topic, claims in TOPICS.items() if topic in query)
    stated = {stem.format(claim): level for level, claim in enumerate(claims) for stem in STEMS}
    return {
        "accuracy": next(level for claim, level in stated.items() if claim in body),
        "brevity": 3 - sum(filler in body for variants in FILLERS for filler in variants),
        "politeness": next(level for level, words in enumerate(OPENINGS) if opening in words),
        "format": next((level for level in (3, 2, 0) if body.startswith(MARKS[level])), 1),
    }


def loose_judge(
    question: Question,
    permutation: tuple[int, ...],
    rng: random.Random,
    *,
    score_range: ScoreRange,
    hint: int | None = None,
) -> str:
    """Return a completion of the base policy's teacher on the responses as shown (shown i = responses[permutation[i]]).

    Principles come from habit, the critique is true to the text, and the scores follow the heavier principle loosely.

    Args:
        question: A question of the tiny world.
        permutation: permutation[shown position] = index of the response.
        rng: Draws principles and scores.
        score_range: The scores to give.
        hint: As in `prompts.render`: the best shown position, or the label if n = 1. The judge chooses a principle by which it
            holds, and scores accordingly.
    """
    shown = _shown(question, permutation)
    chosen = _choose(question.query, shown, rng, hint)
    return _written(chosen, shown, rng, _loose_scores(chosen, shown, rng, score_range, hint))


def unprincipled_judge(
    question: Question,
    permutation: tuple[int, ...],
    rng: random.Random,
    *,
    score_range: ScoreRange,
    hint: int | None = None,
) -> str:
    """Return the judgement of `loose_judge` with the same `rng`, without its principles.

    The critique gives the levels by the heavier principle and does not name it.
    """
    shown = _shown(question, permutation)
    chosen = _choose(question.query, shown, rng, hint)
    scores = _loose_scores(chosen, shown, rng, score_range, hint)
    return _completion("", [LEVELS[levels[chosen[0]]] for levels in shown], scores)


def reading_drill(question: Question, permutation: tuple[int, ...], rng: random.Random, *, score_range: ScoreRange) -> str:
    """Return a completion that reads everything: the cue's principle first, then the others, and all their levels."""
    shown = _shown(question, permutation)
    counts = principle_of(question.query)
    named = [counts, *rng.sample([name for name in PRINCIPLES if name != counts], 3)]
    return _written(named, shown, rng, _scores(named, shown, rng, score_range))


def _shown(question: Question, permutation: Sequence[int]) -> list[Levels]:
    return [levels_of(question.query, question.responses[index]) for index in permutation]


def _written(chosen: list[str], shown: list[Levels], rng: random.Random, scores: list[int]) -> str:
    heavier = rng.choice((60, 70, 80))
    weights = {1: (100,), 2: (heavier, 100 - heavier), 4: (40, 30, 20, 10)}[len(chosen)]
    criteria = ", ".join(f"{name} {weight}%" for name, weight in zip(chosen, weights, strict=True))
    findings = [", ".join(f"{name} {LEVELS[levels[name]]}" for name in chosen) for levels in shown]
    return _completion(criteria, findings, scores)


def _completion(principles: str, findings: list[str], scores: list[int]) -> str:
    """Return a completion with one finding per response, in shown order."""
    critique = " ".join(f"Response {place}: {finding}." for place, finding in enumerate(findings, start=1))
    return write(Judgement(principles=principles, critique=critique, scores=tuple(scores)))


def _choose(query: str, shown: list[Levels], rng: random.Random, hint: int | None) -> list[str]:
    """Return one or two principles, the heavier first."""
    cue = principle_of(query)
    belief = {name: (1 - HEED) * habit + HEED * (name == cue) for name, habit in HABIT.items()}
    first = {name: belief[name] for name in PRINCIPLES if hint in (None, verdict(shown, name))} or belief
    chosen = rng.choices(tuple(first), weights=tuple(first.values()))
    if rng.random() < SECOND:
        rest = [name for name in PRINCIPLES if name not in chosen]
        chosen += rng.choices(rest, weights=[HABIT[name] for name in rest])
    return chosen


def _loose_scores(
    chosen: list[str], shown: list[Levels], rng: random.Random, score_range: ScoreRange, hint: int | None
) -> list[int]:
    """Return scores by the chosen principles; with a hint, the scores that the hint demands."""
    scores = _scores(chosen, shown, rng, score_range)
    if hint is None:
        return scores
    low, high = score_range.low, score_range.high
    if len(shown) == 1:
        return [high if hint else low]
    return [high if place == hint else min(score, high - 1) for place, score in enumerate(scores)]


def _scores(chosen: list[str], shown: list[Levels], rng: random.Random, score_range: ScoreRange) -> list[int]:
    return [_score([levels[name] for name in chosen], rng, score_range) for levels in shown]


def _score(levels: list[int], rng: random.Random, score_range: ScoreRange) -> int:
    """Return a score that follows levels[0]; in 1..10, levels[1] (if any) and jitter move it by one each at most."""
    if rng.random() < SLIP:
        return rng.randint(score_range.low, score_range.high)
    if score_range is ScoreRange.VERDICT:
        return int(levels[0] >= 2)
    nudge = {0: -1, 3: 1}.get(levels[1], 0) if len(levels) > 1 else 0
    jitter = rng.choice((-1, 1)) if rng.random() < JITTER else 0
    return max(score_range.low, min(score_range.high, 1 + 3 * levels[0] + nudge + jitter))
