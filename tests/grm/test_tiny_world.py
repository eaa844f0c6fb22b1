"""The tiny world keeps its law, splits its items and leaks nothing."""

import dataclasses
import random
from collections import Counter, defaultdict
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grm import baselines, judgement, preferences, prompts, rewards, tiny_world
from grm.judgement import ScoreRange
from grm.orders import shuffled
from grm.tiny_world import PRINCIPLES, SIZES

MANY = 4000
LEVELS = st.fixed_dictionaries({name: st.integers(0, 3) for name in PRINCIPLES})


def pairs(seed: int = 1) -> list[preferences.Preference]:
    return tiny_world.preferences(seed, MANY, 2)


def read(preference: preferences.Preference) -> list[dict[str, int]]:
    question = preference.question
    return [tiny_world.levels_of(question.query, response) for response in question.responses]


def item(preference: preferences.Preference) -> tuple[object, ...]:
    """The item that the split is by, read back from the text."""
    query = preference.question.query
    topic = next(topic for topic in tiny_world.TOPICS if topic in query)
    profiles = sorted(tuple(levels.values()) for levels in read(preference))
    return (topic, query.replace(topic, "").strip(), *profiles)


def test_a_seed_gives_the_same_preferences_and_another_seed_others() -> None:
    assert tiny_world.preferences(3, 50) == tiny_world.preferences(3, 50)
    assert tiny_world.preferences(3, 50) != tiny_world.preferences(4, 50)


def test_a_longer_list_begins_with_the_shorter_one() -> None:
    assert tiny_world.preferences(3, 50)[:20] == tiny_world.preferences(3, 20)


@given(levels=LEVELS, topic=st.sampled_from(sorted(tiny_world.TOPICS)), seed=st.integers(0, 10**6))
def test_every_wording_shows_its_levels(levels: dict[str, int], topic: str, seed: int) -> None:
    text = tiny_world._response(topic, levels, random.Random(seed))
    assert tiny_world.levels_of(topic, text) == levels


@pytest.mark.parametrize("n", sorted(SIZES))
def test_the_label_follows_the_principle_of_the_cue_alone(n: int) -> None:
    for preference in tiny_world.preferences(5, 400, n):
        assert len(preference.question.responses) == n
        assert tiny_world.principle_of(preference.question.query) == preference.subset
        assert tiny_world.verdict(read(preference), preference.subset) == preference.label


def test_training_and_held_out_items_are_disjoint_whatever_the_seeds() -> None:
    train = {item(p) for seed in (1, 2) for p in tiny_world.preferences(seed, MANY)}
    held_out = {item(p) for seed in (1, 9) for p in tiny_world.preferences(seed, MANY, held_out=True)}
    assert not train & held_out


def test_the_mix_of_sizes() -> None:
    counts = Counter(len(p.question.responses) for p in tiny_world.preferences(6, MANY))
    for n, share in SIZES.items():
        assert counts[n] / MANY == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize(("count", "n"), [(-1, None), (1, 0), (1, 5)])
def test_impossible_requests_are_refused(count: int, n: int | None) -> None:
    with pytest.raises(ValueError, match="n in"):
        tiny_world.preferences(0, count, n)


def test_a_query_of_another_world_is_refused() -> None:
    with pytest.raises(ValueError, match="no cue"):
        tiny_world.principle_of("What is love?")


# --- nothing leaks


@pytest.mark.parametrize("n", sorted(SIZES))
def test_no_label_changes_a_prompt(n: int) -> None:
    template = prompts.template("compact")
    for preference in tiny_world.preferences(7, 30, n):
        order = tuple(range(n))
        shown = {
            prompts.render(dataclasses.replace(preference, label=label).question, order, template) for label in range(max(2, n))
        }
        assert len(shown) == 1
        assert preference.question.id not in shown.pop()


@pytest.mark.parametrize("n", [2, 3, 4])
def test_the_best_response_stands_anywhere(n: int) -> None:
    places = Counter(p.label for p in tiny_world.preferences(8, MANY, n))
    assert all(places[place] / MANY == pytest.approx(1 / n, abs=0.03) for place in range(n))


def test_single_responses_are_right_half_of_the_time() -> None:
    labels = [p.label for p in tiny_world.preferences(8, MANY, 1)]
    assert sum(labels) / MANY == pytest.approx(0.5, abs=0.03)


def test_no_word_of_the_query_reveals_the_label() -> None:
    by_word = defaultdict(list)
    for preference in pairs():
        for word in set(preference.question.query.split()):
            by_word[word].append(preference.label)
    for word, labels in by_word.items():
        deviation = abs(sum(labels) / len(labels) - 0.5)
        assert deviation < 4.5 * 0.5 / len(labels) ** 0.5, word  # 4.5 standard errors of a fair coin


def test_length_reveals_the_label_only_where_brevity_counts() -> None:
    """The shorter answer wins the brevity quarter; in the other three quarters length is no use."""
    drawn = pairs()
    assert 0.54 < baselines.shortest_accuracy(drawn) < 0.66
    assert 0.34 < baselines.longest_accuracy(drawn) < 0.46
    others = [p for p in drawn if p.subset != "brevity"]
    assert baselines.shortest_accuracy(others) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("principle", PRINCIPLES)
def test_a_judge_of_one_principle_is_right_in_its_quarter_and_at_chance_elsewhere(principle: str) -> None:
    def share_right(judged: list[preferences.Preference]) -> float:
        gaps = [(levels[p.label][principle] - levels[1 - p.label][principle]) for p in judged for levels in [read(p)]]
        return sum(1.0 if gap > 0 else 0.5 if gap == 0 else 0.0 for gap in gaps) / len(gaps)

    drawn = pairs()
    assert share_right([p for p in drawn if p.subset == principle]) == 1.0
    assert share_right([p for p in drawn if p.subset != principle]) == pytest.approx(0.5, abs=0.04)


# --- the loose judge


def judged(n: int, count: int, *, score_range: ScoreRange, hinted: bool = False) -> list[tuple[bool, str, bool]]:
    """(correct, first principle, is that the principle that counts) of one judgement per preference."""
    rng = random.Random(11)
    judgements = []
    for preference in tiny_world.preferences(12, count, n):
        order = shuffled(n, rng)
        shown_label = preference.label if n == 1 else order.index(preference.label)
        text = tiny_world.loose_judge(
            preference.question, order, rng, score_range=score_range, hint=shown_label if hinted else None
        )
        parsed = judgement.parse(text, n, low=score_range.low, high=score_range.high)
        assert isinstance(parsed, judgement.Judgement)
        reward = rewards.rule_reward(judgement.unshuffle(parsed.scores, order), preference.label, n)
        first = parsed.principles.split()[0]
        judgements.append((reward > 0, first, first == preference.subset))
    return judgements


def test_the_loose_judge_is_a_little_above_chance_and_follows_its_habit() -> None:
    judgements = judged(2, MANY, score_range=ScoreRange.GRADED)
    assert 0.55 < sum(correct for correct, _, _ in judgements) / MANY < 0.68
    firsts = Counter(first for _, first, _ in judgements)
    assert [name for name, _ in firsts.most_common()] == list(PRINCIPLES)
    assert 0.3 < sum(counts for _, _, counts in judgements) / MANY < 0.45


def test_a_judgement_by_the_principle_that_counts_is_mostly_right() -> None:
    right = [correct for correct, _, counts in judged(2, MANY, score_range=ScoreRange.GRADED) if counts]
    assert sum(right) / len(right) > 0.85


def test_a_hint_makes_judgements_right_more_often() -> None:
    plain = sum(correct for correct, _, _ in judged(3, 1000, score_range=ScoreRange.GRADED))
    hinted = sum(correct for correct, _, _ in judged(3, 1000, score_range=ScoreRange.GRADED, hinted=True))
    assert hinted > 1.3 * plain


def test_single_responses_get_a_verdict_in_training() -> None:
    judgements = judged(1, 1000, score_range=ScoreRange.VERDICT)
    assert 0.55 < sum(correct for correct, _, _ in judgements) / len(judgements) < 0.75


@given(
    seed=st.integers(0, 10**6), n=st.sampled_from(sorted(SIZES)), score_range=st.sampled_from(ScoreRange), hinted=st.booleans()
)
def test_the_unprincipled_judge_gives_the_same_scores_and_names_no_principle(
    seed: int, n: int, score_range: ScoreRange, hinted: bool
) -> None:
    (preference,) = tiny_world.preferences(seed, 1, n)
    question, order = preference.question, tuple(range(n))
    score_range = score_range if n == 1 else ScoreRange.GRADED
    hint = preference.label if hinted else None

    def read_back(judge: Callable[..., str]) -> judgement.Judgement:
        text = judge(question, order, random.Random(seed), score_range=score_range, hint=hint)
        parsed = judgement.parse(text, n, low=score_range.low, high=score_range.high)
        assert isinstance(parsed, judgement.Judgement)
        return parsed

    principled, unprincipled = read_back(tiny_world.loose_judge), read_back(tiny_world.unprincipled_judge)
    heavier = principled.principles.split()[0]
    assert unprincipled.principles == ""
    assert unprincipled.scores == principled.scores
    assert unprincipled.critique == " ".join(
        f"Response {place}: {tiny_world.LEVELS[levels[heavier]]}." for place, levels in enumerate(read(preference), start=1)
    )


@given(seed=st.integers(0, 10**6), n=st.sampled_from(sorted(SIZES)))
def test_critiques_are_true_to_the_text(seed: int, n: int) -> None:
    (preference,) = tiny_world.preferences(seed, 1, n)
    order = shuffled(n, random.Random(seed))
    text = tiny_world.reading_drill(preference.question, order, random.Random(seed), score_range=ScoreRange.GRADED)
    parsed = judgement.parse(text, n)
    assert isinstance(parsed, judgement.Judgement)
    sentences = parsed.critique.removesuffix(".").split(". ")
    for place, (own, sentence) in enumerate(zip(order, sentences, strict=True), start=1):
        levels = tiny_world.levels_of(preference.question.query, preference.question.responses[own])
        head, body = sentence.split(": ")
        assert head == f"Response {place}"
        assert dict(part.split() for part in body.split(", ")) == {
            name: tiny_world.LEVELS[level] for name, level in levels.items()
        }
