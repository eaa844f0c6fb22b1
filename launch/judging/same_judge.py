"""Whether a served judge is still the one that began: a stored greedy prompt is asked again.

first row with a greedy answer ─▶ the same request ─▶ same text? same system_fingerprint? ─▶ served.jsonl
of a scalar reward model: the score of one known chat at each start ─▶ about the same? ─▶ served.jsonl
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from math import isclose
from pathlib import Path
from typing import Any

from grm.judged import NO_ANSWER
from grm.preferences import Preference
from launch.cluster.failures import RunFailed
from launch.judging.protocol import Answer, Judge, JudgeGone
from launch.judging.vote_plan import VotePlan
from launch.judging.votes import holds_question, judgements
from launch.monitoring import jsonl_log

FILE = "served.jsonl"
CLOSE = 0.02  # of two scores of one chat, absolute or relative: a server's batches round differently


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """A stored greedy prompt that was asked again."""

    id: str
    """Id of its preference."""
    date: str
    """Day of asking again (UTC)."""
    stored: str
    """Day of the stored answer; "" in older files."""
    same_text: bool
    """Whether the answer is the same to the letter."""
    fingerprint: str
    """The server's `system_fingerprint` now; "" where it tells none."""
    stored_fingerprint: str
    """The stored one."""

    @property
    def changed(self) -> bool:
        """Whether something differs."""
        return not self.same_text or self.fingerprint != self.stored_fingerprint

    def describe(self) -> str:
        """Return it as a sentence."""
        if not self.changed:
            return f"the judge gives the stored answer to {self.id} again: it is the one that began"
        what = "gives another answer to a stored greedy prompt" if not self.same_text else "has another system_fingerprint"
        editions = f" (system_fingerprint {self.stored_fingerprint or 'not told'} -> {self.fingerprint or 'not told'})"
        return (
            f"the served judge {what} than on {self.stored or 'the first day'}{editions}: it may have changed under its name,"
            " and the figures are of both; use another --out to judge all of it anew (few servers repeat a greedy answer to the"
            " letter under load)"
        )


def ask_again(
    judge: Judge, plan: VotePlan, preferences: Sequence[Preference], rows: Mapping[str, Mapping[str, Any]], out: Path
) -> Probe | None:
    """Ask the first stored greedy prompt again and keep what came of it in `out`; None where none is stored or answered.

    Args:
        judge: Gives the answer.
        plan: How it was asked.
        preferences: Those of the evaluation.
        rows: {id: row on disk}.
        out: Folder of the evaluation.

    Raises:
        RunFailed: The judge is gone.
    """
    for preference in preferences:
        row = rows.get(preference.question.id, {})
        stored = next((each for each in judgements(row, "greedy")[:1] if each["failure"] != NO_ANSWER), None)
        if stored is None or not holds_question(row, preference):
            continue
        asked = plan.greedy(preference.question, judge.escape_special_tokens)[0]
        (answered,) = judge.judge([asked.request])
        answer = answered[0] if isinstance(answered, tuple) else answered
        if isinstance(answer, JudgeGone):
            raise RunFailed(f"the judge was gone when it was asked a stored prompt again: {answer}")
        if not isinstance(answer, Answer):
            return None  # what is missing will be asked next, and end with this error
        probe = Probe(
            id=preference.question.id,
            date=datetime.now(UTC).date().isoformat(),
            stored=row.get("date", ""),
            same_text=answer.text == stored["text"],
            fingerprint=answer.fingerprint,
            stored_fingerprint=stored.get("fingerprint", ""),
        )
        jsonl_log.append(out / FILE, [{"probe": asdict(probe)}])
        return probe
    return None


def keep_known_score(out: Path, score: float) -> str:
    """Keep what a scalar reward model gives the known chat at its first start. Returns a sentence where it gives another score
    now, which is kept too; "" where it is about the same."""
    known = next((line["known"] for line in jsonl_log.repair_and_read(out / FILE) if "known" in line), None)
    if known is None:
        jsonl_log.append(out / FILE, [{"known": score, "date": datetime.now(UTC).date().isoformat()}])
    if known is None or isclose(known, score, rel_tol=CLOSE, abs_tol=CLOSE):
        return ""
    changed = (
        f"the served model scores a known chat {score:.4g} now, and {known:.4g} at its first start: it may have changed under"
        " its name, and the figures are of both; use another --out to score all of it anew"
    )
    record_change(out, changed)
    return changed


def record_change(out: Path, change: str) -> None:
    """Keep that the server does not take a field of a request."""
    if change not in notes_of(out):
        jsonl_log.append(out / FILE, [{"change": change}])


def notes_of(out: Path) -> list[str]:
    """Return what all sessions of an evaluation found out about its served judge that a reader of the figures must know."""
    lines = jsonl_log.repair_and_read(out / FILE)
    probes = [Probe(**line["probe"]) for line in lines if "probe" in line]
    return [line["change"] for line in lines if "change" in line] + [each.describe() for each in probes if each.changed]
