"""Whether anything comes of the groups that are issued: a run whose groups are all of no use says so, and ends in time.

outcomes ─┬─ the last groups in a row are dead letters ─▶ RunFailed, with their reasons
          └─ no step, all groups are filtered          ─▶ a note that says why, until `waits.progress_s` ends the run
"""

import time
from collections.abc import Mapping

from buffer.ledger import Ledger
from buffer.stream_state import Client, newest_dead_reasons
from launch.cluster.failures import RunFailed
from launch.monitoring.snapshot import reasons_text

LOOK_S = 1.0  # between two looks
# Dead letters in a row that end a run: so many, and so many times the credit. As dead letters give their credit back at once,
# and good groups only when they are trained or filtered, that is reached only where nearly all groups are bad.
LEAST, CREDITS = 32, 4
FIRST_NOTE_S = 15.0  # after a step; later notes come after twice the time each


class OutcomeWatch:
    """Looks at the outcomes of a stage's groups."""

    def __init__(self, client: Client, run_id: str) -> None:
        """Begins to count now.

        Args:
            client: A connection of the driver.
            run_id: Of the stage's streams.
        """
        self._client, self._run_id, self._ledger = client, run_id, Ledger(client, run_id)
        self._looked = 0.0
        self.stepped()
        # groups with another outcome, and dead letters when those last became more
        self._used, self._dead_before = _used(self._at_step), self._at_step["dead_letter"]

    def stepped(self) -> None:
        """An optimiser step was taken: what is said from now on is about the time after it."""
        self._at_step, self._stepped_at = self._ledger.outcomes(), time.monotonic()
        self._next_note_s = FIRST_NOTE_S

    def check(self, credit: int) -> None:
        """Look at the outcomes, every second at most.

        Args:
            credit: Groups outstanding at most.

        Raises:
            RunFailed: For a long time every group became a dead letter.
        """
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        outcomes = self._ledger.outcomes()
        if (used := _used(outcomes)) != self._used:
            self._used, self._dead_before = used, outcomes["dead_letter"]
        in_a_row = outcomes["dead_letter"] - self._dead_before
        if in_a_row >= max(LEAST, CREDITS * credit):
            raise RunFailed(f"the last {in_a_row} groups in a row became dead letters: {self.dead_reasons()}")

    def dead_reasons(self) -> str:
        """Returns the reasons of the newest dead letters, in words."""
        return reasons_text(newest_dead_reasons(self._client, self._run_id))

    def dead(self) -> int:
        """Returns how many groups became dead letters."""
        return self._ledger.outcomes()["dead_letter"]

    def since_step(self, arrived: Mapping[str, float]) -> str:
        """Returns what became of the groups since the last step, where none of those that arrived can be learnt from.

        Args:
            arrived: Metrics of what arrived.
        """
        outcomes = self._ledger.outcomes()
        counts = {name: outcomes[name] - self._at_step[name] for name in ("filtered", "dropped", "dead_letter")}
        text = f"{counts['filtered']} groups filtered since the last step: {why_uninformative(arrived)}"
        if counts["dead_letter"]:
            text += f"; {counts['dead_letter']} became dead letters: {self.dead_reasons()}"
        return text

    def is_note_due(self) -> bool:
        """Returns whether it is time to say again that no step is taken; true ever more rarely."""
        if time.monotonic() - self._stepped_at < self._next_note_s:
            return False
        self._next_note_s *= 2
        return True


def _used(outcomes: Mapping[str, int]) -> int:
    return outcomes["trained"] + outcomes["filtered"] + outcomes["dropped"]


def why_uninformative(arrived: Mapping[str, float]) -> str:
    """Returns why no group can be learnt from, by the metrics of groups that are all uninformative."""
    unparsed, cut = arrived.get("parse/failure_rate", 0.0), arrived.get("length/truncated_fraction", 0.0)
    if unparsed == 1:
        at_limit = f" ({cut:.0%} were cut at rollout.max_new_tokens)" if cut else ""
        return f"no judgement parsed{at_limit}"
    if arrived.get("reward/solved_none") == 1:
        return f"every judgement was wrong ({unparsed:.0%} did not parse)"
    if arrived.get("reward/solved_all") == 1:
        return "every judgement was right"
    return f"in each group all judgements were right, or all wrong ({unparsed:.0%} did not parse)"
