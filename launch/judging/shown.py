"""How far a judging is, for the display: preferences that are done between two waves, and answers inside of one."""

from launch.monitoring.console import ShowActivity


class Shown:
    """Turns waves of preferences, and the requests of one that are answered, into how many preferences are judged."""

    def __init__(self, show: ShowActivity, text: str, wave: int, total: int) -> None:
        """Shows nothing yet.

        Args:
            show: Gets what is shown.
            text: What is done, in words.
            wave: Preferences of a wave, at most.
            total: All of them.
        """
        self._show, self._text, self._wave, self._total = show, text, wave, total
        self._done = 0

    def reached(self, done: int) -> None:
        """So many preferences are done, between two waves."""
        self._done = done
        self._show(self._text, done=done, total=self._total)

    def answered(self, answers: int, asked: int) -> None:
        """So many requests of the wave under way are answered."""
        wave = min(self._wave, self._total - self._done)
        self._show(self._text, done=self._done + wave * answers // max(1, asked), total=self._total)
