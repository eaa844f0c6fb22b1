"""The preferences of a run by source: loaded, told apart, and enough of them for what is to be done.

data.train, data.heldout ─▶ PreferenceData each, sources mixed ─▶ ids that occur once, no row in both ─▶ batches that they fill

Nothing heavy is imported here: what is wrong with data is said before torch, Ray or an engine is loaded.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

from configs import laws
from configs.load import ConfigError
from configs.schema import Config
from grm.benchmark_sets import PREFIX
from grm.content import Overlap, overlap
from grm.mixing import mixing_place
from grm.own_converters import split
from grm.preferences import DataError, Preference, merged_names
from grm.sources import SMALL_WORLD, across_sources, default_names, load_mixed


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
    """Rows that cannot be used, by reason."""
    named: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The first of them by reason, each by its place."""

    @cached_property
    def preferences(self) -> list[Preference]:
        """All of them, mixed (`grm.mixing`): the first of them are a fair sample of all."""
        every = chain.from_iterable(source.preferences for source in self.sources)
        return sorted(every, key=lambda preference: mixing_place(preference.question.id))

    def describe(self) -> str:
        """Return how many preferences are used of each source."""
        counts = ", ".join(f"{len(source.preferences):,} of {source.name}" for source in self.sources)
        return f"{self.leaf}: {counts}"


@dataclass(frozen=True, kw_only=True)
class RunData:
    """The preferences of a run."""

    train: PreferenceData
    """What it trains on."""
    heldout: PreferenceData
    """What it is evaluated on."""

    @cached_property
    def overlap(self) -> Overlap:
        """What of the held-out preferences is trained on."""
        return overlap(self.train.preferences, self.heldout.preferences)


def load_data(config: Config) -> RunData:
    """Load all preferences of a run, and see that none is trained on and held out. Errors as of `load_training`."""
    data = RunData(train=load_training(config), heldout=load_heldout(config, beside=config.data.train))
    require_no_overlap(data)
    require_unique_ids(data.train, data.heldout)
    return data


def describe_data(config: Config) -> tuple[str, bool]:
    """Returns a line on the data of a run that is only planned, and whether the run would take it as far as is known: what
    there is of it, or what is wrong. Nothing is fetched."""
    hub = [name for name in (*config.data.train, *config.data.heldout) if split(name)[1].startswith(("hf:", PREFIX))]
    if hub:
        return f"rows       not looked at, since {hub[0]} would be fetched", True
    try:
        data = load_data(config)
    except (ConfigError, DataError) as error:
        return f"rows       cannot be used as they are: {error}", False
    skipped = sum(data.train.skipped.values()) + sum(data.heldout.skipped.values())
    used = f"{len(data.train.preferences):,} to train on, {len(data.heldout.preferences):,} held out"
    return f"rows       {used}, {skipped:,} skipped", True


def load_training(config: Config) -> PreferenceData:
    """Load the training preferences. DataError names file, line and field; ConfigError when there is none, or a source is a
    benchmark."""
    if benchmarks := [source for source in config.data.train if source.startswith(PREFIX)]:
        raise ConfigError(
            f"data.train: {benchmarks[0]} is a benchmark, and figures on it would mean nothing; evaluate on it only"
        )
    ids = default_names([*config.data.train, *config.data.heldout])
    return _load("data.train", config.data.train, config.data.train_limit, ids, config)


def load_heldout(config: Config, *, beside: Sequence[str]) -> PreferenceData:
    """Load the held-out preferences; errors as of `load_training`.

    Args:
        config: Names them.
        beside: The sources that their ids must be told from: those of the training preferences, if these are used too.
    """
    ids = default_names([*beside, *config.data.heldout])
    return _load("data.heldout", config.data.heldout, config.data.heldout_limit, ids, config)


def _load(leaf: str, names: Sequence[str], limit: int, ids: Mapping[str, str], config: Config) -> PreferenceData:
    """Load all sources, mixed, up to `limit` preferences (0: all). Of a source beyond the limit one row at least is checked."""
    asked = [(name, ids.get(name, "")) for name in names]
    loaded = load_mixed(asked, limit=limit or None, show=config.prompts.show, strict=config.data.strict)
    loaded = across_sources(names, loaded)
    sources = [SourceData(name=name, preferences=own.preferences) for name, own in zip(names, loaded, strict=True)]
    skipped = sum((Counter(own.skipped) for own in loaded), Counter[str]())
    named = merged_names(own.named for own in loaded)
    if not any(source.preferences for source in sources):
        why = "; ".join(
            f"{count} x {reason}, the first at {named[reason][0]}" for reason, count in skipped.items() if reason in named
        )
        raise ConfigError(f"{leaf}: no usable preference in {', '.join(names)}: {why or 'they are empty'}")
    return PreferenceData(leaf=leaf, sources=sources, skipped=dict(skipped), named=named)


def require_no_overlap(data: RunData) -> None:
    """ConfigError when a held-out row is trained on: found by query and responses, whatever the ids and files are."""
    found = data.overlap.rows
    if found:
        first, second = found[0]
        heldout = len(data.heldout.preferences)
        raise ConfigError(
            f"data.heldout: {len(found)} of {heldout} preferences stand in data.train too, by content: the first are {first!r}"
            f" and {second!r}; leave them out of one: python launch/data.py convert TRAIN --without HELDOUT --out NEW"
        )


def overlap_notes(data: RunData) -> list[str]:
    """Returns a sentence where held-out queries are trained on with other responses. None of the small world's own: it has few
    queries, and its held-out items are others by what the responses say (`grm.tiny_world`)."""
    shared = data.overlap.queries
    if not shared or all(source.name.startswith(SMALL_WORLD) for source in data.heldout.sources):
        return []
    first, second = shared[0]
    return [
        f"data.heldout: {len(shared)} of {len(data.heldout.preferences)} queries stand in data.train too, with other responses:"
        f" the first are {first!r} and {second!r}; figures on them may be too good"
    ]


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
        " trained on, and a label is found by its id; leave rows out of one of them, or give the rows the ids of their content:"
        " python launch/data.py convert FILE --new-ids --out NEW"
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
