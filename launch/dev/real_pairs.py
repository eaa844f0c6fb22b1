"""Pairs of real text that a small language model can learn to judge (make demo-real), and right judgements of them.

    docstrings of Python, or preference files ─▶ answers: a query and the opening of its best response
    ─▶ couples of answers of about one length ─▶ for each query its own answer against the other's
    ─▶ train.jsonl, heldout.jsonl (preferences; no answer is in both), teacher.jsonl (judgements, for cold_start.teacher)

As each answer of a couple is once the right one and once the wrong one, no rule that does not read the query does better than
a coin: the longest response, the shortest, the likeliest, the first or the second are right in exactly half.

A judgement goes from text to number in small steps: it quotes the best response, says which one that is, and scores. Which one
is best is decided where its first words are copied, which is where a language model knows what fits a query; the number is then
looked up from the copy. A judge this small that has to begin with the number learns a place first, and the text much later.

python -m launch.dev.real_pairs FOLDER                          from Python's own documentation
python -m launch.dev.real_pairs FOLDER preferences.jsonl ...    from your preferences
"""

import argparse
import json
import math
import random
import re
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from buffer import files
from grm import baselines, sources
from grm.judgement import Judgement, write
from grm.preferences import DataError, Preference, Question
from launch.dev import docstrings

QUERY = 200  # characters of a query at most
RESPONSE = range(30, 121)  # characters of a response
QUOTED = 4  # words that a judgement quotes
APART = 2  # first words in which the responses of a pair differ somewhere, so that a quote names one of them
NEAR = 100  # answers of about one length among which the one to the query most alike is taken
ROUNDS = 8  # times that an answer is used at most, each time beside another one
TRIES = 20  # orders of words that are drawn for a garbled response
BEST, OTHER = 9, 2
ASIDE, GARBLED = "other query", "garbled"  # names of subsets: what is wrong with the wrong response

_SENTENCES = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"])")
_PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_HALF_LIST = re.compile(r"[:\s]*\s\d+\.$")  # the number of a list's first item, which was cut off


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A query and a response that answers it."""

    query: str
    """On one line."""
    text: str
    """Whole sentences, on one line."""


Couple = tuple[Answer, Answer]


def answers_of(preferences: Sequence[Preference]) -> list[Answer]:
    """Return the best response of each query, opening sentences only, each text once; what is too long is left out."""
    found, texts = dict[str, Answer](), set[str]()
    for preference in preferences:
        best = preference.label if len(preference.question.responses) > 1 else 0
        if len(preference.question.responses) == 1 and not preference.label:
            continue
        query, text = " ".join(preference.question.query.split()), opening(preference.question.responses[best])
        if len(query) <= QUERY and len(text) in RESPONSE and query not in found and text not in texts:
            found[query] = Answer(query=query, text=text)
            texts.add(text)
    return list(found.values())


def opening(response: str) -> str:
    """Return as many of a response's first sentences as `RESPONSE` allows, on one line; "" if the first is too long."""
    kept = ""
    for sentence in _SENTENCES.split(" ".join(response.split())):
        longer = f"{kept} {sentence}".strip()
        if len(longer) > RESPONSE[-1]:
            break
        kept = longer
    return _HALF_LIST.sub("", kept)


def couples(answers: Sequence[Answer], rng: random.Random, avoid: Container[frozenset[str]] = ()) -> list[Couple]:
    """Return couples of answers of about one length to queries that are alike, each answer in one at most, in random order.

    Each answer, in random order, takes the one of `NEAR` others nearest to it in length whose query shares most with its own; a
    shared word counts by its rarity. Answers whose first words are the same, and couples in `avoid`, are not put together.
    """
    rarity = _rarity(answers)
    left = sorted(answers, key=lambda answer: (len(answer.text), rng.random()))
    found = list[Couple]()
    while len(left) > 1:
        place = rng.randrange(len(left))
        first = left.pop(place)
        near = left[max(0, place - NEAR // 2) : place + NEAR // 2]
        others = [each for each in near if _begins(each.text) != _begins(first.text) and _names((first, each)) not in avoid]
        if others:
            second = max(others, key=lambda each: sum(rarity[word] for word in words(each.query) & words(first.query)))
            left.remove(second)
            found.append((first, second))
    rng.shuffle(found)
    return found


def split(answers: Sequence[Answer], train: int, heldout: int, rng: random.Random) -> tuple[list[Couple], list[Couple]]:
    """Return up to `train` and `heldout` couples, of different answers; at most a third of the answers is held out.

    Where there are too few answers for so many training couples, each is used again beside another one, `ROUNDS` times at most.
    """
    found = couples(answers, rng)
    kept = min(heldout, len(found) // 3)
    held, shown = found[:kept], found[kept:]
    left = [answer for couple in shown for answer in couple]
    for _ in range(ROUNDS - 1):
        if len(shown) < train:
            shown += couples(left, rng, {_names(couple) for couple in shown})
    return shown[:train], held


def _drawn(pairs: Sequence[Couple], count: int, rng: random.Random) -> list[Answer]:
    """Return up to `count` different answers of couples."""
    different = list(dict.fromkeys(answer for couple in pairs for answer in couple))
    return rng.sample(different, min(count, len(different)))


def _mixed(first: Sequence[Preference], second: Sequence[Preference]) -> list[Preference]:
    """Return both, two of each in turn, so that a limit on the rows takes as many of each and no half of a couple."""
    starts = range(0, max(len(first), len(second)), 2)
    return [each for start in starts for kind in (first, second) for each in kind[start : start + 2]]


def _names(couple: Couple) -> frozenset[str]:
    return frozenset(answer.query for answer in couple)


def words(query: str) -> frozenset[str]:
    """Return the words of a query, and the parts of its names: {"tempfile", "get", "dir"} of `tempfile.getDir`."""
    return frozenset(part.lower() for part in _PARTS.findall(query))


def _rarity(answers: Sequence[Answer]) -> dict[str, float]:
    """Return the logarithm of one in how many queries has each word."""
    counts = Counter(word for answer in answers for word in words(answer.query))
    return {word: math.log(len(answers) / count) for word, count in counts.items()}


def _begins(text: str) -> str:
    return " ".join(text.lower().split()[:APART])


def preferences_of(pairs: Sequence[Couple], name: str) -> list[Preference]:
    """Return two preferences for each couple: its answers against each other under the one's query, and under the other's."""
    made = []
    for number, pair in enumerate(pairs):
        for label, answer in enumerate(pair):
            question = Question(id=f"{name}-{number}-{label}", query=answer.query, responses=(pair[0].text, pair[1].text))
            made.append(Preference(question=question, label=label, subset=ASIDE))
    return made


def garbled_of(answers: Sequence[Answer], name: str, rng: random.Random) -> list[Preference]:
    """Return a preference for each answer against its own words in another order, of the first words too."""
    made = []
    for number, answer in enumerate(answers):
        order = answer.text.split()
        for _ in range(TRIES):
            rng.shuffle(order)
            if _begins(text := " ".join(order)) != _begins(answer.text):
                label = number % 2
                question = Question(
                    id=f"{name}-{number}", query=answer.query, responses=(text, answer.text) if label else (answer.text, text)
                )
                made.append(Preference(question=question, label=label, subset=GARBLED))
                break
    return made


def judgement(preference: Preference, permutation: Sequence[int]) -> str:
    """Return the right judgement of a pair in one order: a quote of the best response, its number, then the scores."""
    best, place = preference.question.responses[preference.label], permutation.index(preference.label)
    quote = " ".join(best.split()[:QUOTED])
    critique = f'The query is answered by "{quote}", which is Response {place + 1}.'
    scores = tuple(BEST if own == preference.label else OTHER for own in permutation)
    return write(Judgement(principles="", critique=critique, scores=scores))


def preference_rows(preferences: Sequence[Preference]) -> Iterator[dict[str, object]]:
    """Yield the rows of a preference file."""
    for preference in preferences:
        question = preference.question
        yield {
            "id": question.id,
            "prompt": question.query,
            "responses": question.responses,
            "preferred": preference.label,
            "subset": preference.subset,
        }


def teacher_rows(preferences: Sequence[Preference]) -> Iterator[dict[str, object]]:
    """Yield the rows of a teacher's file: each pair in both orders, by an author who was told the best response."""
    for preference in preferences:
        for permutation in ((0, 1), (1, 0)):
            text = judgement(preference, permutation)
            yield {"preference": preference.question.id, "permutation": permutation, "hinted": True, "text": text}


def build(answers: Sequence[Answer], *, train: int, heldout: int, taught: int, seed: int) -> dict[str, list[dict[str, object]]]:
    """Return the rows of each file, by its name.

    Args:
        answers: From which pairs are made; a part of them for held-out pairs alone.
        train: Most training pairs.
        heldout: Most held-out pairs.
        taught: The first of the training pairs, for which there are judgements.
        seed: Of the split and the couples.

    Raises:
        DataError: There are too few answers for any pair.
    """
    rng = random.Random(seed)
    trained, kept = split(sorted(answers, key=lambda answer: answer.query), train // 4, heldout // 4, rng)
    aside, held_aside = preferences_of(trained, "aside"), preferences_of(kept, "held-aside")
    shown = _mixed(aside, garbled_of(_drawn(trained, len(aside), rng), "garbled", rng))
    held = _mixed(held_aside, garbled_of(_drawn(kept, len(held_aside), rng), "held-garbled", rng))
    if not held or not shown:
        raise DataError(
            f"{len(answers)} usable answers give no pairs; give more preferences whose queries have at most {QUERY} characters"
            f" and whose best response begins with sentences of {RESPONSE[0]} to {RESPONSE[-1]}"
        )
    for name, preferences in (("train", shown), ("heldout", held)):
        print(
            f"{name}: {len(preferences)} pairs of {len({p.question.query for p in preferences})} queries, longest right in"
            f" {baselines.longest_accuracy(preferences):.1%}, shortest in {baselines.shortest_accuracy(preferences):.1%}"
        )
    return {
        "train.jsonl": list(preference_rows(shown)),
        "heldout.jsonl": list(preference_rows(held)),
        "teacher.jsonl": list(teacher_rows(aside[:taught])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the files are written")
    parser.add_argument("preferences", nargs="*", help="sources of preferences, as of data.train; none: Python's documentation")
    parser.add_argument("--train", type=int, default=800, help="training pairs")
    parser.add_argument("--heldout", type=int, default=200, help="held-out pairs")
    parser.add_argument("--taught", type=int, default=160, help="training pairs with judgements, each in both orders")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    loaded = [preference for source in arguments.preferences for preference in sources.load(source).preferences]
    answers = answers_of(loaded) if arguments.preferences else [Answer(query=q, text=a) for q, a in docstrings.answers()]
    rows = build(answers, train=arguments.train, heldout=arguments.heldout, taught=arguments.taught, seed=arguments.seed)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name, lines in rows.items():
        files.write(arguments.folder / name, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


if __name__ == "__main__":
    main()
