"""What a rollout actor reports of a slice of work. Light: the driver reads it, and needs no engine for that."""

from dataclasses import dataclass, field, fields


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutReport:
    """What one slice did."""

    worker: str
    """The worker's name."""
    version: int
    """Policy version of its weights at the end of the slice."""
    groups: int
    """Groups handed on."""
    lost: int
    """Groups that another worker had handed on first."""
    given_back: int
    """Claims that it gave back when it drained."""
    completions: int
    """Completions of the groups handed on."""
    tokens: int
    """Tokens that its engine finished, those of judgements among them."""
    in_flight: int
    """Groups that were still running at the end of the slice."""
    pulls: int
    """Policy versions loaded."""
    seconds: float
    """Length of the slice."""
    idle_s: float
    """Part of `seconds` without anything to decode."""
    pull_s: float
    """From the beginning of a fetch to the end of its load, added up; only `pause_s` of it is taken from decoding."""
    pause_s: float
    """Part of `seconds` in which decoding stood still for a load."""
    latencies_s: tuple[float, ...]
    """For each group that was finished, the time from its submission to the engine to its last token."""


@dataclass(slots=True)
class Tally:
    """Counts of the slice under way, by the names of `RolloutReport`."""

    groups: int = 0
    lost: int = 0
    given_back: int = 0
    completions: int = 0
    pulls: int = 0
    idle_s: float = 0.0
    pull_s: float = 0.0
    pause_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)

    def report(self, *, worker: str, version: int, tokens: int, in_flight: int, seconds: float) -> RolloutReport:
        """Returns the report of the slice, with what is not counted here."""
        counts = {each.name: getattr(self, each.name) for each in fields(self)} | {"latencies_s": tuple(self.latencies_s)}
        return RolloutReport(worker=worker, version=version, tokens=tokens, in_flight=in_flight, seconds=seconds, **counts)
