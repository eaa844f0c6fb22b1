"""The preferences of a run by source: loaded, their ids kept apart, and enough of them for what is to be done.

data.train, data.heldout ─▶ PreferenceData each, sources mixed ─▶ ids that occur once ─▶ batches and splits that they can fill
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from configs import laws
from configs.load import ConfigError
from configs.schema import Config
from grm.benchmark_sets import PREFIX
from grm.mixing import mixing_place
from grm.preferences import Preference
from grm.sources import default_names, load_mixed


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceData:
    """What is used of one source."""

    name: str
    """The source, as the config names it."""
    preferences: Sequence[Preference]
    """Its preferences, by their place in the mixture."""


@dataclass(frozen=True, kw_only=True)
class PreferenceData:
    """The preferences that one leaf of the config names."""

    leaf: str
    """The leaf: `data.train` or `data.heldout`."""
    sources: Sequence[SourceData]
    """The sources, in order."""
    skipped: Mapping[str, int]
    """Rows without a usable label, by reason."""

    @cached_property
    def preferences(self) -> list[Preference]:
        """All of them, mixed (`grm.mixing`): the first of them are a fair sample of all."""
        every = chain.from_iterable(source.preferences for source in self.sources)
        return sorted(every, key=lambda preference: mixing_place(preference.question.id))

    def describe(self) -> str:
        """Return how many preferences are used of each source."""
        counts = ", ".join(f"{len(source.preferences):,} of {source.name}" for source in self.sources)
        return f"{self.leaf}: {counts}"


def load_training(config: Config) -> PreferenceData:
    """Load the training preferences. DataError names file, line and field; ConfigError when there is none, or a source is a
    benchmark."""
    if benchmarks := [source for source in config.data.train if source.startswith(PREFIX)]:
        raise ConfigError(
            f"data.train: {benchmarks[0]} is a benchmark, and figures on it would mean nothing; evaluate on it only"
        )
    ids = default_names([*config.data.train, *config.data.heldout])
    return _load("data.train", config.data.train, config.data.train_limit, ids, config.prompts.show)


def load_heldout(config: Config, *, beside: Sequence[str]) -> PreferenceData:
    """Load the held-out preferences; errors as of `load_training`.

    Args:
        config: Names them.
        beside: The sources that their ids must be told from: those of the training preferences, if these are used too.
    """
    ids = default_names([*beside, *config.data.heldout])
    return _load("data.heldout", config.data.heldout, config.data.heldout_limit, ids, config.prompts.show)


def _load(leaf: str, names: Sequence[str], limit: int, ids: Mapping[str, str], show: Sequence[str]) -> PreferenceData:
    """Load all sources, mixed, up to `limit` preferences (0: all). Of a source beyond the limit one row at least is checked."""
    loaded = load_mixed([(name, ids.get(name, "")) for name in names], limit=limit or None, show=show)
    sources = [SourceData(name=name, preferences=own.preferences) for name, own in zip(names, loaded, strict=True)]
    skipped = sum((Counter(own.skipped) for own in loaded), Counter[str]())
    if not any(source.preferences for source in sources):
        raise ConfigError(f"no usable preference in {', '.join(names)}: {dict(skipped) or 'they are empty'}")
    return PreferenceData(leaf=leaf, sources=sources, skipped=dict(skipped))


def require_unique_ids(*data: PreferenceData) -> None:
    """ConfigError when an id occurs twice, though labels are looked up by id. It names both sources."""
    places: dict[str, str] = {}
    repeated: dict[str, tuple[str, str]] = {}
    for each in data:
        for source in each.sources:
            place = f"{each.leaf} ({source.name})"
            for name in (preference.question.id for preference in source.preferences):
                if name in places:
                    repeated.setdefault(name, (places[name], place))
                places.setdefault(name, place)
    if not repeated:
        return
    name, (first, second) = next(iter(repeated.items()))
    raise ConfigError(
        f"preference id {name!r} occurs twice, in {first} and in {second} ({len(repeated)} such ids): held-out rows must not be"
        " trained on, and a label is found by its id; leave rows out of one of them, or make the ids unique"
    )


def require_enough(config: Config, *, train: int, general: int, taught: Sequence[str] = ()) -> None:
    """ConfigError when a split or a batch can never be filled, which would come to light after minutes of sampling.

    Args:
        config: The run's.
        train: Number of training preferences.
        general: Number of examples of general data; none of them is held out.
        taught: The preference of each judgement in the teacher's file.
    """
    sampled = _sampled(config, train, taught)
    if config.cold_start.enabled and sampled < 2:
        raise ConfigError(
            f"data.train: the cold start would learn from {sampled} preference, and its examples are split into a training and"
            " a held-out part: give two preferences at least (cold_start.preferences), or set cold_start.enabled=false"
        )
    if broken := laws.meta_rm_laws(config.meta_rm, config.cold_start, config.grpo, config.rollout, preferences=train):
        raise ConfigError("; ".join(broken))


def small_data_notes(config: Config, *, train: int, general: int, taught: Sequence[str] = ()) -> list[str]:
    """Returns a sentence for each batch that the data fills only with repetitions, or not at all: legal, but seldom meant."""
    cold, notes = config.cold_start, []
    most = len(taught) if cold.reads_judgements else _sampled(config, train, ()) * (cold.samples + cold.hinted)
    most += general
    if cold.enabled and cold.batch > most:
        notes.append(f"cold_start.batch = {cold.batch} is over the {most} examples at most: each step takes all of them")
    if config.grpo.batch_groups > train:
        notes.append(
            f"grpo.batch_groups = {config.grpo.batch_groups} is over the {train} training preferences: a step takes some of"
            " them more than once"
        )
    return notes


def _sampled(config: Config, train: int, taught: Sequence[str]) -> int:
    """Returns how many preferences the cold start has judgements of."""
    cold = config.cold_start
    if not cold.enabled:
        return 0
    return len(set(taught)) if cold.reads_judgements else min(cold.preferences or train, train)
