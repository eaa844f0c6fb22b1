"""The door of a run: everything that can be checked before processes start is checked here.

config ─▶ model, data, prompts, folder      or one error that names the field and the remedy
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from buffer.ledger import Cursor
from configs.load import ConfigError
from configs.schema import Config
from grm import instructions
from grm.instructions import Instruction
from grm.judgement import training_scale
from grm.preferences import Loaded, Preference
from grm.sources import load
from launch.setup import resource_plan
from launch.setup.model_files import resolve
from launch.setup.prompt_source import Draft, PromptSource, prompt_source
from launch.setup.run_folder import create_run_folder, find_run_folder
from launch.setup.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class RunInputs:
    """What a run starts from. train, heldout: all preferences; judged: the held-out ones that fit, and `drafts` their
    prompts, in the same order; skipped: what was passed over, by reason."""

    model: str
    processes: list[resource_plan.PlannedProcess]
    train: Sequence[Preference]
    heldout: Sequence[Preference]
    judged: Sequence[Preference]
    drafts: Sequence[Draft]
    prompts: PromptSource
    tokenizer: Tokenizer
    mixed: Sequence[Instruction]
    skipped: dict[str, int]
    folder: Path

    @property
    def preferences(self) -> list[Preference]:
        """All of them, for the reward actor, which joins by id."""
        return [*self.train, *self.heldout]


def prepare_run(config: Config, *, preset: str, resume: bool = False) -> RunInputs:
    """Check everything; make the run folder last, or find the one that is to be resumed. ConfigError, DataError or
    TemplateError."""
    model = resolve(config.model.path)
    processes = resource_plan.planned_processes(config, model)
    train = load_preferences(config.data.train, config.data.train_limit)
    heldout = load_preferences(config.data.heldout, config.data.heldout_limit)
    require_disjoint([*train.preferences, *heldout.preferences])
    mixed = [one for name in config.cold_start.general for one in instructions.load(Path(name))]
    tokenizer = Tokenizer(model)
    prompts = prompt_source(config, [p.question for p in train.preferences], tokenizer)
    drafts, skipped = heldout_prompts(config, train, heldout, prompts, tokenizer)
    if config.cold_start.enabled and config.cold_start.hinted:
        require_hints(train.preferences, prompts)
    by_id = {p.question.id: p for p in heldout.preferences}
    return RunInputs(
        model=model,
        processes=processes,
        train=train.preferences,
        heldout=heldout.preferences,
        judged=[by_id[draft.preference] for draft in drafts],
        drafts=drafts,
        prompts=prompts,
        tokenizer=tokenizer,
        mixed=mixed,
        skipped=skipped,
        folder=find_run_folder(config) if resume else create_run_folder(config, preset, model),
    )


def load_preferences(sources: Sequence[str], limit: int) -> Loaded:
    """All sources in order, up to `limit` preferences (0: all). DataError names file, line and field."""
    loaded = [load(name, limit=limit or None) for name in sources]
    preferences = [p for one in loaded for p in one.preferences]
    skipped: Counter[str] = Counter()
    for one in loaded:
        skipped.update(one.skipped)
    if not preferences:
        raise ConfigError(f"no usable preference in {', '.join(sources)}: {dict(skipped) or 'they are empty'}")
    return Loaded(preferences=tuple(preferences[: limit or None]), skipped=dict(skipped))


def require_disjoint(everything: Sequence[Preference]) -> None:
    """ConfigError when an id occurs twice in training and held-out data."""
    repeated = [name for name, count in Counter(p.question.id for p in everything).items() if count > 1]
    if repeated:
        raise ConfigError(
            f"preference id {repeated[0]!r} occurs twice in data.train and data.heldout ({len(repeated)} such ids):"
            " held-out rows must not be trained on; make ids unique"
        )


def heldout_prompts(
    config: Config, train: Loaded, heldout: Loaded, prompts: PromptSource, tokenizer: Tokenizer
) -> tuple[list[Draft], dict[str, int]]:
    """-> (held-out prompts, what was passed over by reason). A prompt that is too long is counted, never cut."""
    drafts = prompt_source(config, [p.question for p in heldout.preferences], tokenizer).heldout(len(heldout.preferences))
    if not drafts:
        raise ConfigError(f"no held-out prompt fits in {config.max_prompt_tokens} tokens; raise model.context")
    prompts.take(Cursor(), 1)  # raises when no training prompt fits
    skipped = Counter(train.skipped) + Counter(heldout.skipped)
    skipped["prompt longer than the context"] += prompts.too_long() + len(heldout.preferences) - len(drafts)
    return drafts, {reason: count for reason, count in skipped.items() if count}


def require_hints(preferences: Sequence[Preference], prompts: PromptSource) -> None:
    """TemplateError when a template that the preferences need has no place for a hint. `prompts` are theirs, in order."""
    needed = {training_scale(len(p.question.responses)): index for index, p in enumerate(preferences)}
    for index in needed.values():
        prompts.draft(index, "hint", best=preferences[index].label)


def format_skipped(skipped: Mapping[str, int]) -> str:
    if not skipped:
        return ""
    return "\nskipped    " + ", ".join(f"{count} x {reason}" for reason, count in skipped.items())
