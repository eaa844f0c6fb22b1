"""The preferences of a run by source: loaded, their ids kept apart, and enough of them for what is to be done.

data.train, data.heldout ─▶ PreferenceData each ─▶ ids that occur once ─▶ batches and splits that they can fill
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
from grm.preferences import Preference
from grm.sources import default_names, load


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceData:
    """What is used of one source."""

    name: str
    """The source, as the config names it."""
    preferences: Sequence[Preference]
    """Its preferences, in order."""


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
        """All of them, in order."""
        return list(chain.from_iterable(source.preferences for source in self.sources))


def load_training(config: Config) -> PreferenceData:
    """Load the training preferences. DataError names file, line and field; ConfigError when there is none, or a source is a
    benchmark."""
    if benchmarks := [source for source in config.data.train if source.startswith(PREFIX)]:
        raise ConfigError(
            f"data.train: {benchmarks[0]} is a benchmark, and figures on it would mean nothing; evaluate on it only"
        )
    ids = default_names([*config.data.train, *config.data.heldout])
    return _load("data.train", config.data.train, config.data.train_limit, ids)


def load_heldout(config: Config, *, beside: Sequence[str]) -> PreferenceData:
    """Load the held-out preferences; errors as of `load_training`.

    Args:
        config: Names them.
        beside: The sources that their ids must be told from: those of the training preferences, if these are used too.
    """
    ids = default_names([*beside, *config.data.heldout])
    return _load("data.heldout", config.data.heldout, config.data.heldout_limit, ids)


def _load(leaf: str, names: Sequence[str], limit: int, ids: Mapping[str, str]) -> PreferenceData:
    """Load all sources in order, up to `limit` preferences (0: all). Every source is checked, those beyond the limit too."""
    sources, skipped, left = list[SourceData](), Counter[str](), limit
    for name in names:
        loaded = load(name, limit=limit or None, name=ids.get(name, ""))
        used = loaded.preferences[:left] if limit else loaded.preferences
        left -= len(used)
        sources.append(SourceData(name=name, preferences=used))
        skipped.update(loaded.skipped)
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


def require_enough(config: Config, *, train: int, general: int) -> None:
    """ConfigError when a split or a batch can never be filled, which would come to light after minutes of sampling.

    Args:
        config: The run's.
        train: Number of training preferences.
        general: Number of examples of general data.
    """
    sampled = _sampled(config, train)
    if config.cold_start.enabled and sampled + general < 2:
        raise ConfigError(
            f"data.train: the cold start would sample {sampled} preference, and its examples are split into a training and a"
            " held-out part: give two preferences at least (cold_start.preferences), or set cold_start.enabled=false"
        )
    if broken := laws.meta_rm_laws(config.meta_rm, config.cold_start, config.grpo, config.rollout, preferences=train):
        raise ConfigError("; ".join(broken))


def small_data_notes(config: Config, *, train: int, general: int) -> list[str]:
    """Returns a sentence for each batch that the data fills only with repetitions, or not at all: legal, but seldom meant."""
    cold, notes = config.cold_start, []
    most = _sampled(config, train) * (cold.samples + cold.hinted) + general
    if cold.enabled and cold.batch > most:
        notes.append(f"cold_start.batch = {cold.batch} is over the {most} examples at most: each step takes all of them")
    if config.grpo.batch_groups > train:
        notes.append(
            f"grpo.batch_groups = {config.grpo.batch_groups} is over the {train} training preferences: a step takes some of"
            " them more than once"
        )
    return notes


def _sampled(config: Config, train: int) -> int:
    """Returns how many preferences the cold start samples."""
    return min(config.cold_start.preferences or train, train) if config.cold_start.enabled else 0
