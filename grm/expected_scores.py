"""Expected scores: the mean over the distribution of a score's token, instead of the digit that was written (arXiv:2503.03064).

    Scores: \\boxed{7, 8}      P(7) = 0.6, P(8) = 0.3, P(6) = 0.1     ─▶ 7.2, ...

Each score keeps its fine grain at one judgement, and ties become rare. Pure functions.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import exp

from grm.judgement import verdict_start, without_thoughts

_BOXED = re.compile(r"boxed")
_NUMBER = re.compile(r"[0-9]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenChoice:
    """A token of a completion, and what might have stood in its place."""

    text: str
    """Its text."""
    top: tuple[tuple[str, float], ...]
    """(text, log-prob) of the likeliest tokens at its place, itself among them; empty where nobody asked."""


def trimmed(tokens: Iterable[TokenChoice]) -> tuple[TokenChoice, ...]:
    """Return the tokens, with alternatives only where `expected_scores` may read them: at digits, and behind them."""
    kept, behind = list[TokenChoice](), False
    for token in tokens:
        digits = bool(_NUMBER.search(token.text))
        kept.append(token if digits or behind else TokenChoice(text=token.text, top=()))
        behind = digits
    return tuple(kept)


def expected_scores(
    tokens: Sequence[TokenChoice], scores: Sequence[float], *, low: int = 1, high: int = 10
) -> tuple[float, ...] | None:
    """Return the expected value of each score of a completion, in shown order.

        E_i = sum_s s P(s) / sum_s P(s)     over the scores s in low..high whose probability is known, given all that was
                                            written before the i-th score

    A score of one token has that token's probability. A score that was written as two tokens, "1" and "0", shares the first
    one's between 1 and 10, as the second one's alternatives tell. Where "1" was an alternative that was not taken, nobody knows
    what would have followed: it counts as 1 if the tokenizer is seen to write 10 as one token, and is left out otherwise.

    Args:
        tokens: Of the completion.
        scores: Those that were read in it, whole numbers in the box that the strict parser reads; where it does not hold them,
            in the last `boxed` outside of thoughts that does.
        low: The lowest score.
        high: The highest score.

    Returns:
        None where the scores do not stand in a box as they were read, or their tokens came without alternatives.
    """
    spans = _spans("".join(token.text for token in tokens), scores)
    starts = [0, *accumulate(len(token.text) for token in tokens)]
    places = [bisect_right(starts, at) - 1 for at in spans]
    if not spans or any(not tokens[place].top for place in places):
        return None
    befores = [tokens[place].text[: at - starts[place]] for place, at in zip(places, spans, strict=True)]
    whole_ten = any(
        _number(text, before)[0] == "10" for place, before in zip(places, befores, strict=True) for text, _ in tokens[place].top
    )
    means = []
    for place, before in zip(places, befores, strict=True):
        following = tokens[place + 1].top if place + 1 < len(tokens) else ()
        shares = _shares(tokens[place], before, following, whole_ten=whole_ten)
        known = {score: share for score, share in shares.items() if low <= score <= high}
        if not sum(known.values()) > 0:
            return None
        means.append(sum(score * share for score, share in known.items()) / sum(known.values()))
    return tuple(means)


def _spans(text: str, scores: Sequence[float]) -> list[int]:
    """Return where each score begins: in the verdict, or in the last box whose first numbers they are; nothing if there is
    none. A box behind the verdict that repeats it is sure of each score, and no measure of the verdict."""
    strict, boxes = verdict_start(text), _BOXED.finditer(without_thoughts(text))
    for start in [*([] if strict is None else [strict]), *reversed([box.end() for box in boxes])]:
        numbers = [found for found, _ in zip(_NUMBER.finditer(text, start), scores, strict=False)]
        if [int(found.group()) for found in numbers] == list(scores):
            return [found.start() for found in numbers]
    return []


def _shares(token: TokenChoice, before: str, following: Sequence[tuple[str, float]], *, whole_ten: bool) -> dict[int, float]:
    """Return the probability of each number that may begin behind `before` in this token's place."""
    shares: dict[int, float] = {}

    def add(score: int, share: float) -> None:
        shares[score] = shares.get(score, 0.0) + share

    for text, logprob in token.top:
        number, ended = _number(text, before)
        if not number:
            continue
        if number != "1" or ended:
            add(int(number), exp(logprob))
        elif text == token.text and following:
            next_digits = [(_number(other, "")[0], exp(share)) for other, share in following if other[:1].isdigit()]
            add(1, exp(logprob) * max(0.0, 1 - sum(share for _, share in next_digits)))
            add(10, exp(logprob) * sum(share for digits, share in next_digits if digits == "0"))
        elif text == token.text or whole_ten:
            add(1, exp(logprob))
    return shares


def _number(text: str, before: str) -> tuple[str, bool]:
    """Return the digits that a token's text has behind `before`, of which blanks do not matter, and whether more text follows
    them in it; "" where the text does not begin with that, or no digit follows."""
    begins = text.startswith(before) or not before.strip()
    rest = text[len(before) :] if before.strip() else text.lstrip()
    digits = _NUMBER.match(rest) if begins else None
    return (digits.group(), digits.end() < len(rest)) if digits else ("", False)
