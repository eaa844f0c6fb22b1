"""What the tiny world's base policy imitates: a curriculum from reading the responses to judging them."""

import random
from collections import Counter
from dataclasses import dataclass

from grm import prompts, tiny_world
from grm.judgement import Judgement, ScoreRange, parse_training, training_score_range, unshuffle
from grm.orders import shuffled
from grm.preferences import Preference, Question
from grm.rewards import rule_reward

HINTED = 0.08  # share of judging lessons whose prompt holds the hint, so that a cold start can sample with hints
UNPRINCIPLED = 0.10  # share of judging lessons that request no principles, so that the ablation can start from this base
CURRICULUM = (  # (until this share of the steps, {n: share of lessons with n responses}); after that the world's shares
    (0.06, {1: 1.0}),
    (0.20, {1: 0.3, 2: 0.7}),
    (0.75, {1: 0.1, 2: 0.3, 3: 0.3, 4: 0.3}),
)
JUDGING_ONLY_FROM = 0.75  # share of the steps; until then the share of judging lessons rises from 0.2 to 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """One example to imitate."""

    question: Question
    """The query and its responses."""
    prompt: str
    """The user's message."""
    completion: str
    """What the policy learns to write."""
    correctness: str = ""
    """Whether the judgement is right: "+", "-", or "" where there is no rule."""


def reading_lesson(preference: Preference, rng: random.Random) -> Lesson:
    """Returns a lesson that names every level of every response."""
    question = preference.question
    order = shuffled(len(question.responses), rng)
    return Lesson(
        question=question,
        prompt=prompts.render(question, order, prompts.template("compact"), score_range=ScoreRange.GRADED),
        completion=tiny_world.reading_drill(question, order, rng, score_range=ScoreRange.GRADED),
    )


def judging_lesson(preference: Preference, rng: random.Random) -> Lesson:
    """Returns a judgement by the loose judge, with or without principles; single responses on either scale."""
    question, n = preference.question, len(preference.question.responses)
    order = shuffled(n, rng)
    scale = rng.choice((ScoreRange.VERDICT, ScoreRange.GRADED)) if n == 1 else ScoreRange.GRADED
    best = preference.label if n == 1 else order.index(preference.label)
    hint = best if rng.random() < HINTED else None
    principles = rng.random() >= UNPRINCIPLED
    judge = tiny_world.loose_judge if principles else tiny_world.unprincipled_judge
    template = prompts.template("compact", principles=principles)
    completion = judge(question, order, rng, score_range=scale, hint=hint)
    return Lesson(
        question=question,
        prompt=prompts.render(question, order, template, hint=hint, score_range=scale),
        completion=completion,
        correctness=_correctness(completion, order, preference.label, scale),
    )


def _correctness(completion: str, order: tuple[int, ...], label: int, scale: ScoreRange) -> str:
    """Apply the rule; "" for a single response on the graded scale, for which there is none."""
    n = len(order)
    if scale is not training_score_range(n):
        return ""
    parsed = parse_training(completion, n, cut_short=False)
    assert isinstance(parsed, Judgement)  # the teacher keeps the format
    return "+" if rule_reward(unshuffle(parsed.scores, order), label, n) > 0 else "-"


def judging_lessons(seed: int, count: int, *, held_out: bool = False) -> list[Lesson]:
    rng = random.Random(f"lessons/{seed}")
    return [judging_lesson(preference, rng) for preference in tiny_world.preferences(seed, count, held_out=held_out)]


def lessons_at(step: int, count: int, *, seed: int, steps: int) -> list[Lesson]:
    """Returns `count` fresh lessons for `step`: from single responses to the world's mix, from reading to judging."""
    rng = random.Random(f"lessons/{seed}/{step}")
    sizes = next((sizes for until, sizes in CURRICULUM if step < until * steps), tiny_world.SIZES)
    judging = min(1.0, 0.2 + 0.8 * step / (JUDGING_ONLY_FROM * steps))
    shares = Counter(rng.choices(tuple(sizes), weights=tuple(sizes.values()), k=count))
    world_seed = seed * 1_000_003 + step + 1
    return [
        (judging_lesson if rng.random() < judging else reading_lesson)(preference, rng)
        for n, share in sorted(shares.items())
        for preference in tiny_world.preferences(world_seed, share, n)
    ]
