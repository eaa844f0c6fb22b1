"""The three message types, with what must hold within each. Their codec is `buffer/messages.py`."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from buffer.fields import MAX_ITEMS, require


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """A preference in one order of its responses, as the policy reads it."""

    permutation: tuple[int, ...]
    """permutation[shown position] = index of the response in the preference's own order."""
    token_ids: tuple[int, ...]
    """What the policy reads."""
    samples: int
    """Number of completions to sample, >= 1."""

    def __post_init__(self) -> None:
        shown = len(self.permutation)
        require(0 < shown <= MAX_ITEMS, "permutation", f"1..{MAX_ITEMS} responses, not {shown}")
        good = sorted(self.permutation) == list(range(shown))
        require(good, "permutation", f"a permutation of 0..{shown - 1}", self.permutation)
        require(len(self.token_ids) > 0, "token_ids", "at least one token")
        require(0 < self.samples <= MAX_ITEMS, "samples", f"1..{MAX_ITEMS} completions, not {self.samples}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """One group to roll out. It has no label, so a worker that reads it can leak none (I6)."""

    group: int
    """Number of the group in this run: consecutive, >= 0."""
    preference: str
    """Id of the preference, by which the reward actor finds the label."""
    views: tuple[View, ...]
    """The preference in one order or several, each another one."""
    issued_at: int
    """Policy version u at issue."""
    seed: int | None = None
    """Seed of the sampling: the same prompt gives the same completions on any worker. None: the engine's own stream."""

    def __post_init__(self) -> None:
        count = len(self.views)
        require(0 < count <= MAX_ITEMS, "views", f"1..{MAX_ITEMS} views, not {count}")
        require(len({view.permutation for view in self.views}) == count, "views", "another order in each")
        require(len({len(view.permutation) for view in self.views}) == 1, "views", "the same responses in each")
        require(self.samples <= MAX_ITEMS, "views", f"at most {MAX_ITEMS} completions in all, not {self.samples}")

    @property
    def samples(self) -> int:
        """G, the completions of all views."""
        return sum(view.samples for view in self.views)

    @property
    def permutations(self) -> tuple[tuple[int, ...], ...]:
        """The permutation that each of the G completions has read, in their order."""
        return tuple(view.permutation for view in self.views for _ in range(view.samples))


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """One completion of T >= 1 tokens."""

    token_ids: tuple[int, ...]
    """T token ids."""
    logprobs: tuple[float, ...]
    """T log-probs of the behaviour policy at the sampling temperature: finite, float32 on the wire."""
    versions: tuple[int, ...]
    """The policy version that produced each of the T tokens."""
    text: str
    """The decoded tokens."""
    finish: Literal["stop", "length"]
    """`stop`, or `length` if it was cut off."""

    def __post_init__(self) -> None:
        _per_token("", self.token_ids, self.logprobs, self.versions)


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutGroup:
    """A prompt with its completions."""

    prompt: Prompt
    """The prompt as issued."""
    completions: tuple[Completion, ...]
    """G = `prompt.samples` completions, in the order of the views."""

    def __post_init__(self) -> None:
        samples, count = self.prompt.samples, len(self.completions)
        require(count == samples, "completions", f"{samples} completions, one per sample of the prompt, not {count}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ExperienceGroup:
    """A scored group of G >= 1 completions, as the learners read it: numbers only, no text and no label."""

    group: int
    """Number of the group in this run."""
    preference: str
    """Id of the preference."""
    issued_at: int
    """Policy version u at issue."""
    responses: int
    """n, the responses of the preference, >= 1."""
    prompt_ids: tuple[tuple[int, ...], ...]
    """V sequences of token ids: the prompt of each view."""
    samples: tuple[int, ...]
    """V counts >= 1, G in all: the first `samples[0]` completions are of the first view, and so on."""
    completion_ids: tuple[tuple[int, ...], ...]
    """G sequences of T_i >= 1 token ids."""
    logprobs: tuple[tuple[float, ...], ...]
    """G sequences of T_i behaviour log-probs."""
    versions: tuple[tuple[int, ...], ...]
    """G sequences of T_i policy versions."""
    rewards: tuple[float, ...]
    """G finite numbers; the rule gives -1 or +1."""
    failures: tuple[str, ...]
    """G reasons why a completion could not be parsed; "" where it could."""
    truncated: tuple[bool, ...]
    """G times whether the completion ended at the token limit."""
    picks: tuple[int | None, ...]
    """G times the response with the one highest score, as its index in the preference's own order. None: n = 1, a tie for the
    best, or no judgement."""
    places: tuple[int | None, ...]
    """G times where that response was shown, counted from 0; None where `picks` is."""

    def __post_init__(self) -> None:
        samples = len(self.completion_ids)
        require(0 < samples <= MAX_ITEMS, "completion_ids", f"1..{MAX_ITEMS} completions, not {samples}")
        for name in ("logprobs", "versions", "rewards", "failures", "truncated", "picks", "places"):
            count = len(getattr(self, name))
            require(count == samples, name, f"{samples} values, one per completion, not {count}")
        for i in range(samples):
            _per_token(f"[{i}]", self.completion_ids[i], self.logprobs[i], self.versions[i])
        self._check_views(samples)

    def _check_views(self, samples: int) -> None:
        views = len(self.prompt_ids)
        require(all(self.prompt_ids), "prompt_ids", "at least one token in each prompt")
        require(len(self.samples) == views, "samples", f"{views} values, one per prompt, not {len(self.samples)}")
        good = all(count > 0 for count in self.samples) and sum(self.samples) == samples
        require(good, "samples", f"counts >= 1 that sum to {samples} completions", self.samples)
        for name in ("picks", "places"):
            values = [value for value in getattr(self, name) if value is not None]
            require(max(values, default=0) < self.responses, name, f"indices below {self.responses} responses", values)
        alike = all((pick is None) == (place is None) for pick, place in zip(self.picks, self.places, strict=True))
        require(alike, "places", "a value where `picks` has one, and nowhere else")

    @property
    def informative(self) -> bool:
        """Whether the rewards differ: a group with std r = 0 carries no policy gradient."""
        return max(self.rewards) != min(self.rewards)


def view_numbers(samples: Iterable[int]) -> list[int]:
    """Return the number of the view that each completion of a group has read: of the samples 2, 1 it is 0, 0, 1."""
    return [number for number, count in enumerate(samples) for _ in range(count)]


def first_completions(samples: Iterable[int]) -> list[int]:
    """Return the index of the first completion of each view: of the samples 2, 1 it is 0, 2."""
    return list(accumulate(samples, initial=0))[:-1]


def _per_token(at: str, ids: tuple[int, ...], logprobs: tuple[float, ...], versions: tuple[int, ...]) -> None:
    tokens = len(ids)
    require(tokens > 0, f"token ids{at}", "at least one token in each completion")
    require(len(logprobs) == tokens, f"logprobs{at}", f"{tokens} values, one per token, not {len(logprobs)}")
    require(len(versions) == tokens, f"versions{at}", f"{tokens} values, one per token, not {len(versions)}")
