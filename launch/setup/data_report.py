"""What `launch/data.py check` says of preferences, a line a fact (pure): sizes, labels, lengths, repeats, overlap.

preferences of a source ─▶ lines to read before anything is trained or measured on them
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from grm.baselines import chance_accuracy, longest_accuracy, shortest_accuracy
from grm.content import Overlap, content_id
from grm.preferences import Loaded, Preference

SHORTER, LONGER = 0.35, 0.65  # accuracy of the longest of two beyond which length alone says much


def report(loaded: Loaded, shapes: Mapping[str, int]) -> list[str]:
    """Returns the lines about one source: shapes met, rows used and skipped, n, labels, lengths, repeats.

    Args:
        loaded: Its preferences.
        shapes: Rows by the shape that reads them; empty where the source is no file.
    """
    lines = [_line("shape", ", ".join(f"{count:,} x {name}" for name, count in shapes.items()))] if shapes else []
    skipped = sum(loaded.skipped.values())
    lines.append(_line("used", f"{len(loaded.preferences):,} preferences; {skipped:,} rows skipped"))
    for reason, count in loaded.skipped.items():
        lines.append(_line("skipped", f"{count:,} x {reason}"))
        lines += [_line("", place) for place in loaded.named.get(reason, ())]
    return lines + (figures(loaded.preferences) if loaded.preferences else [])


def overlap_lines(found: Overlap, against: str, rows: int) -> list[str]:
    """Returns the lines about what of a source stands in another one, by content.

    Args:
        found: The overlap, the other source first.
        against: Name of the other source.
        rows: Preferences of the source.
    """
    lines = [_line("overlap", f"{len(found.rows):,} of {rows:,} stand in {against}, {len(found.queries):,} more share a query")]
    for kind, both in (("the first row", found.rows), ("the first query", found.queries)):
        lines += [_line("", f"{kind}: {own} here, {other} there") for other, own in both[:1]]
    return lines


def figures(preferences: Sequence[Preference]) -> list[str]:
    """Returns the lines about preferences, at least one: sizes, labels, lengths, repeats."""
    sizes = Counter(len(preference.question.responses) for preference in preferences)
    several = [preference for preference in preferences if len(preference.question.responses) > 1]
    singles = [preference for preference in preferences if len(preference.question.responses) == 1]
    lines = [_line("responses", ", ".join(f"{count:,} x n = {n}" for n, count in sorted(sizes.items())))]
    if singles:
        right = sum(preference.label for preference in singles)
        lines.append(_line("labels", f"{right:,} of {len(singles):,} single responses are right ({right / len(singles):.1%})"))
    if several:
        places = Counter(preference.label for preference in several)
        shares = ", ".join(f"{place}: {count / len(several):.1%}" for place, count in sorted(places.items())[:8])
        lines += [
            _line("labels", f"place of the best: {shares} (the order is drawn anew for each judgement)"),
            *_lengths(several),
        ]
    queries = len({preference.question.query for preference in preferences})
    said = Counter(content_id(preference.question) for preference in preferences)
    lines.append(_line("queries", f"{queries:,} different ones"))
    if repeats := len(preferences) - len(said):
        lines.append(_line("repeated", f"{repeats:,} rows say what another one says, under an id of their own"))
    return lines


def _lengths(several: Sequence[Preference]) -> list[str]:
    longest, shortest, chance = longest_accuracy(several), shortest_accuracy(several), chance_accuracy(several)
    figures = f"the longest is the best in {longest:.1%}, the shortest in {shortest:.1%}; by chance {chance:.1%}"
    lines = [_line("lengths", figures)]
    if not SHORTER <= longest / (2 * chance) <= LONGER:
        lines.append(_line("beware", "length alone says much of what is best: a judge may learn it, and nothing else"))
    return lines


def _line(head: str, text: str) -> str:
    return f"{head:<10} {text}"
