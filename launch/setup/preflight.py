"""The preflight of a run: whatever can be checked before processes start is checked here.

config ─▶ model, data, prompts, folder      or one error that names the field and the remedy
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.load import ConfigError
from configs.schema import Config
from grm import instructions
from grm.instructions import Instruction
from grm.judgement import training_score_range
from grm.preferences import Loaded, Preference
from grm.sources import load
from launch.setup import resource_plan
from launch.setup.model_files import resolve
from launch.setup.model_integrity import check_model_folder
from launch.setup.prompt_source import Draft, PromptSource, prompt_source
from launch.setup.run_folder import create_run_folder, find_run_folder
from launch.setup.tokenizer import Tokenizer

SAMPLE = 64  # training prompts that are rendered before anything starts
TRAINING_TOO_LONG = "training prompt longer than the context"
HELDOUT_TOO_LONG = "held-out prompt longer than the context"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunInputs:
    """What a run starts from."""

    model: str
    """Folder or hub name of the base model."""
    processes: list[resource_plan.PlannedProcess]
    """The processes of the run with their planned memory."""
    train: Sequence[Preference]
    """All training preferences."""
    heldout: Sequence[Preference]
    """All held-out preferences."""
    judged: Sequence[Preference]
    """The held-out preferences whose prompt fits."""
    drafts: Sequence[Draft]
    """The prompts of `judged`, in the same order."""
    prompts: PromptSource
    """The training prompts."""
    tokenizer: Tokenizer
    """The policy's tokenizer."""
    mixed: Sequence[Instruction]
    """General instruction data for the cold start."""
    unusable: Mapping[str, int]
    """Rows and held-out prompts that are passed over, by reason."""
    sample: tuple[int, int]
    """Of the first training prompts: how many are too long, and how many were looked at."""
    folder: Path
    """The run folder, which exists."""

    @property
    def preferences(self) -> list[Preference]:
        """All of them, for the reward actor, which joins by id."""
        return [*self.train, *self.heldout]

    @property
    def skipped(self) -> dict[str, int]:
        """What is passed over, by reason, as far as it is known.

        Training prompts are rendered when they are due. Before the first is issued a sample stands for them; from then on it
        is the data cursor's count, in which a prompt that comes again in a later epoch counts again.
        """
        too_long, looked_at = self.sample
        count, reason = self.prompts.skipped, TRAINING_TOO_LONG
        if count is None:
            count, reason = too_long, f"{TRAINING_TOO_LONG} (of the first {looked_at})"
        return {**self.unusable, reason: count} if count else dict(self.unusable)


def prepare_run(config: Config, *, preset: str, resume: bool = False) -> RunInputs:
    """Check everything, then make the run folder, or find the one to resume.

    Raises:
        ConfigError, DataError, TemplateError: Something cannot work; nothing was made.
    """
    model = resolve(config.model.path)
    check_model_folder(model, trained=True)
    processes = resource_plan.planned_processes(config, model)
    resource_plan.check_object_store(config, model)
    train = load_preferences(config.data.train, config.data.train_limit)
    heldout = load_preferences(config.data.heldout, config.data.heldout_limit)
    require_disjoint([*train.preferences, *heldout.preferences])
    mixed = [instruction for name in config.cold_start.general for instruction in instructions.load(Path(name))]
    tokenizer = Tokenizer(model)
    drafts = heldout_prompts(config, heldout.preferences, tokenizer)
    prompts = prompt_source(config, [p.question for p in train.preferences], tokenizer)
    sample = prompts.check_sample(SAMPLE)
    require_templates(train.preferences, prompts, hinted=config.cold_start.enabled and config.cold_start.hinted)
    unusable = Counter(train.skipped) + Counter(heldout.skipped)
    unusable[HELDOUT_TOO_LONG] += len(heldout.preferences) - len(drafts)
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
        unusable={reason: count for reason, count in unusable.items() if count},
        sample=sample,
        folder=find_run_folder(config) if resume else create_run_folder(config, preset, model),
    )


def load_preferences(sources: Sequence[str], limit: int) -> Loaded:
    """Load all sources in order, up to `limit` preferences (0: all). DataError names file, line and field."""
    loaded = [load(name, limit=limit or None) for name in sources]
    preferences = [preference for source in loaded for preference in source.preferences]
    skipped: Counter[str] = Counter()
    for source in loaded:
        skipped.update(source.skipped)
    if not preferences:
        raise ConfigError(f"no usable preference in {', '.join(sources)}: {dict(skipped) or 'they are empty'}")
    return Loaded(preferences=tuple(preferences[: limit or None]), skipped=dict(skipped))


def require_disjoint(preferences: Sequence[Preference]) -> None:
    """ConfigError when an id occurs twice in training and held-out data."""
    repeated = [name for name, count in Counter(p.question.id for p in preferences).items() if count > 1]
    if repeated:
        raise ConfigError(
            f"preference id {repeated[0]!r} occurs twice in data.train and data.heldout ({len(repeated)} such ids):"
            " held-out rows must not be trained on; make ids unique"
        )


def heldout_prompts(config: Config, preferences: Sequence[Preference], tokenizer: Tokenizer) -> list[Draft]:
    """Returns the held-out prompts that fit: a prompt that is too long is left out, never cut. ConfigError when none fits."""
    source = prompt_source(config, [p.question for p in preferences], tokenizer)
    drafts = source.heldout(len(preferences))
    if not drafts:
        raise ConfigError(f"no held-out prompt fits in {config.max_prompt_tokens} tokens; raise model.context")
    return drafts


def require_templates(preferences: Sequence[Preference], prompts: PromptSource, *, hinted: bool) -> None:
    """TemplateError when a template that the preferences need is missing, or has no place for a hint where hints are sampled.
    `prompts` are theirs, in order; one of each score range is rendered."""
    needed = {training_score_range(len(p.question.responses)): index for index, p in enumerate(preferences)}
    for index in needed.values():
        prompts.draft(index, "template", best=preferences[index].label if hinted else None)


def format_skipped(skipped: Mapping[str, int]) -> str:
    """Returns a line for the head of a run, with a line break before it; "" when nothing was skipped."""
    if not skipped:
        return ""
    return "\nskipped    " + ", ".join(f"{count} x {reason}" for reason, count in skipped.items())
