"""Pairs of real text: no rule that does not read the query judges them, and the teacher's judgements are right."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from grm import preference_files
from grm.judgement import Judgement, parse, unshuffle
from grm.preferences import DataError, Preference, Question
from grm.rewards import rule_reward
from launch.dev import real_pairs
from launch.dev.real_pairs import ASIDE, GARBLED, Answer

ADJECTIVES = ("red", "green", "blue", "small", "tall", "old", "new", "cold", "warm", "loud", "soft", "sweet")
NOUNS = ("kettle", "violin", "garden", "window", "engine", "letter", "bridge", "candle", "basket", "mirror", "ladder", "pencil")


Rows = dict[str, list[dict[str, Any]]]


def answers() -> list[Answer]:
    """Texts of three lengths; every other one begins with the same two words."""
    made = []
    for number, (adjective, noun) in enumerate((a, n) for a in ADJECTIVES for n in NOUNS):
        begins = "This here" if number % 2 else f"{noun.capitalize()} {adjective}"
        text = f"{begins} is the thing to take where one {'often ' * (number % 3)}needs a {adjective} {noun}."
        made.append(Answer(query=f"What is a {adjective} {noun} for?", text=text))
    return made


@pytest.fixture(scope="module")
def rows() -> Rows:
    return real_pairs.build(answers(), train=120, heldout=40, taught=30, seed=1)


def loaded(rows: Rows, name: str, folder: Path) -> list[Preference]:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[name]))
    return list(preference_files.load(path).preferences)


@pytest.mark.parametrize(("name", "count"), [("train.jsonl", 120), ("heldout.jsonl", 40)])
def test_what_does_not_read_the_query_is_right_in_half(rows: Rows, name: str, count: int, tmp_path: Path) -> None:
    pairs = loaded(rows, name, tmp_path)
    assert Counter(pair.subset for pair in pairs) == {ASIDE: count // 2, GARBLED: count // 2}
    assert Counter((pair.subset, pair.label) for pair in pairs) == {
        (kind, label): count // 4 for kind in (ASIDE, GARBLED) for label in (0, 1)
    }
    aside = [pair for pair in pairs if pair.subset == ASIDE]
    right = Counter(pair.question.responses[pair.label] for pair in aside)
    wrong = Counter(pair.question.responses[1 - pair.label] for pair in aside)
    assert right == wrong  # so any score of the response alone is a coin
    for pair in pairs:
        first, second = pair.question.responses
        if pair.subset == GARBLED:
            assert sorted(first.split()) == sorted(second.split())
        else:
            assert abs(len(first) - len(second)) <= 0.2 * len(first)
        assert first.split()[: real_pairs.APART] != second.split()[: real_pairs.APART]


def test_a_limit_keeps_the_balance(rows: Rows) -> None:
    for count in (4, 8, 20):
        cut = rows["heldout.jsonl"][:count]
        assert Counter(row["subset"] for row in cut) == {ASIDE: count // 2, GARBLED: count // 2}
        assert Counter(row["preferred"] for row in cut) == {0: count // 2, 1: count // 2}


def test_no_text_is_in_both_files(rows: Rows) -> None:
    texts = [
        {text for row in rows[name] for text in (row["prompt"], *row["responses"])} for name in rows if "teacher" not in name
    ]
    assert not texts[0] & texts[1]


def test_the_wrong_response_answers_a_query_that_is_alike(rows: Rows) -> None:
    by_text = {answer.text: answer.query for answer in answers()}
    aside = [row for row in rows["train.jsonl"] if row["subset"] == ASIDE]
    shared = [
        len(real_pairs.words(by_text[row["responses"][1 - row["preferred"]]]) & real_pairs.words(row["prompt"]))
        for row in aside
    ]
    assert sum(shared) / len(shared) > 4.5  # "what is a ... for" and, mostly, one of the two other words


def test_the_teacher_is_right_in_both_orders_and_teaches_one_kind(rows: Rows, tmp_path: Path) -> None:
    by_id = {pair.question.id: pair for pair in loaded(rows, "train.jsonl", tmp_path)}
    for each in rows["teacher.jsonl"]:
        pair, read = by_id[each["preference"]], parse(each["text"], 2)
        assert isinstance(read, Judgement)
        assert rule_reward(unshuffle(read.scores, each["permutation"]), pair.label, 2) == 1.0
        assert each["text"].startswith('Analysis: The query is answered by "' + pair.question.responses[pair.label][:12])
        assert f", which is Response {each['permutation'].index(pair.label) + 1}." in each["text"]
        assert (each["hinted"], pair.subset) == (True, ASIDE)
    assert Counter(each["permutation"] for each in rows["teacher.jsonl"]) == {(0, 1): 30, (1, 0): 30}


def test_few_answers_are_used_again_beside_others() -> None:
    few = answers()[:24]
    trained, held = real_pairs.split(few, 60, 3, random.Random(2))
    assert (len(held), len({answer.query for couple in held for answer in couple})) == (3, 6)
    assert len(trained) == len({frozenset(answer.query for answer in couple) for couple in trained}) > 16
    assert not {answer for couple in trained for answer in couple} & {answer for couple in held for answer in couple}


def test_a_best_response_is_cut_at_the_end_of_a_sentence() -> None:
    long = "This is the first sentence of it. " + "Here is a second one, which is so long that it does not fit. " * 3
    assert (
        real_pairs.opening(long)
        == "This is the first sentence of it. Here is a second one, which is so long that it does not fit."
    )
    assert (
        real_pairs.opening("Here are some:\n\n1. This is the first item of a list that goes on and on, " + "on and on, " * 9)
        == "Here are some"
    )
    assert real_pairs.opening("x" * 200) == ""


def test_the_best_response_of_each_query_is_taken_once_and_no_text_twice() -> None:
    good, bad = "This one is long enough to be taken.", "This one would be long enough too, but is bad."
    question = Question(id="a", query="Which\none?", responses=(bad, good))
    single = Question(id="b", query="Is it?", responses=(bad,))
    preferences = [
        Preference(question=question, label=1),
        Preference(question=question, label=0),
        Preference(question=single, label=0),
        Preference(question=Question(id="d", query="Another query with that answer?", responses=(bad, good)), label=1),
        Preference(question=Question(id="c", query="q" * 201, responses=(bad, good)), label=1),
    ]
    assert real_pairs.answers_of(preferences) == [Answer(query="Which one?", text=good)]


def test_too_few_answers_are_refused() -> None:
    with pytest.raises(DataError, match="2 usable answers give no pairs"):
        real_pairs.build(answers()[:2], train=8, heldout=8, taught=2, seed=0)
