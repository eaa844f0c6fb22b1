"""The preflight of a run: whatever can be checked before processes start is checked here.

config ─▶ model, data, prompts, folder      or one error that names the field and the remedy
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.load import ConfigError
from configs.schema import Config
from grm import instructions, teacher_files
from grm.instructions import Instruction
from grm.judgement import training_score_range
from grm.preferences import Preference, merged_names
from grm.prompts import template_notes
from grm.teacher_files import TeacherJudgement
from launch.setup import fingerprints
from launch.setup.context_limit import check_context
from launch.setup.engine_checks import check_engines
from launch.setup.fingerprints import Fingerprint, Teacher
from launch.setup.hub import cached_folder
from launch.setup.model_files import architecture, resolve
from launch.setup.model_integrity import check_model_folder, refuse_quantised
from launch.setup.model_shape import parameters
from launch.setup.object_store import check_object_store
from launch.setup.own_functions import own_function_notes, own_functions
from launch.setup.places import scratch_root
from launch.setup.preference_data import (
    RunData,
    load_data,
    overlap_notes,
    require_enough,
    small_data_notes,
)
from launch.setup.prompt_source import Draft, PromptSource, prompt_source, prompt_template
from launch.setup.resource_plan import Plan, check_machine, planned
from launch.setup.run_folder import create_run_folder, find_run_folder
from launch.setup.shown_fields import require_shown, shown_notes
from launch.setup.tokenizer import Tokenizer

GENERAL_FROM = 1e9  # parameters of a model from which on missing general data is noted
SAMPLE = 64  # training prompts that are rendered before anything starts
TRAINING_TOO_LONG = "training prompt longer than the context"
HELDOUT_TOO_LONG = "held-out prompt longer than the context"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunInputs:
    """What a run starts from."""

    model: str
    """Folder or hub name of the base model."""
    plan: Plan
    """Its processes with their memory, and whether it fits."""
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
    used: Sequence[str]
    """How many preferences are used of each source, a line for each leaf that names several."""
    taught: Sequence[TeacherJudgement]
    """The judgements of a teacher's file, from which the cold start takes what it learns; without one there are none."""
    unusable: Mapping[str, int]
    """Rows and held-out prompts that are passed over, by reason."""
    named: Mapping[str, Sequence[str]]
    """The first of these rows by reason, each by its place."""
    sample: tuple[int, int]
    """Of the first training prompts: how many are too long, and how many were looked at."""
    notes: Sequence[str]
    """What to know before the run starts, a sentence each."""
    fingerprints: Sequence[Fingerprint]
    """Of data, template and model."""
    known: bool
    """Whether the run folder holds the same fingerprints already."""
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


def prepare_run(config: Config, *, preset: str, resume: bool = False, data: RunData | None = None) -> RunInputs:
    """Check everything, then make the run folder, or find the one to resume.

    Args:
        config: The run's.
        preset: Name of its preset, for people.
        resume: The run goes on in its folder.
        data: Its preferences, where they are loaded already.

    Raises:
        ConfigError, DataError, TemplateError: Something cannot work; nothing was made.
    """
    scratch_root()
    refuse_meta_template(config)
    rule_notes = own_function_notes(config)
    model = resolve(config.model.path)
    plan = checked_plan(config, model)
    data = data or load_data(config)
    train, heldout = data.train, data.heldout
    require_shown(config, train)
    general = [(name, instructions.load(Path(name))) for name in config.cold_start.general]
    mixed = [example for _, examples in general for example in examples]
    teacher, taught = load_teacher(config, train.preferences)
    sizes: Any = {"train": len(train.preferences), "general": len(mixed), "taught": [each.preference for each in taught]}
    require_enough(config, **sizes)
    tokenizer = policy_tokenizer(config, model)
    check_hub_model(config, model, trained=True)
    check_adapters(config, model)
    drafts = heldout_prompts(config, heldout.preferences, tokenizer)
    prompts = prompt_source(config, [p.question for p in train.preferences], tokenizer)
    sample = prompts.check_sample(SAMPLE)
    require_templates(train.preferences, prompts, hinted=asks_with_hints(config))
    unusable = Counter(train.skipped) + Counter(heldout.skipped)
    unusable[HELDOUT_TOO_LONG] += len(heldout.preferences) - len(drafts)
    by_id = {p.question.id: p for p in heldout.preferences}
    template = prompt_template(config)
    found = fingerprints.fingerprints(
        [train, heldout], general, template, teacher, model=model, path=config.model.path, functions=own_functions(config)
    )
    folder = find_run_folder(config) if resume else create_run_folder(config, preset, model)
    return RunInputs(
        model=model,
        plan=plan,
        train=train.preferences,
        heldout=heldout.preferences,
        judged=[by_id[draft.preference] for draft in drafts],
        drafts=drafts,
        prompts=prompts,
        tokenizer=tokenizer,
        mixed=mixed,
        taught=taught,
        used=[data.describe() for data in (train, heldout) if len(data.sources) > 1],
        unusable={reason: count for reason, count in unusable.items() if count},
        named=merged_names([train.named, heldout.named]),
        sample=sample,
        notes=[
            *template_notes(template),
            *rule_notes,
            *shown_notes(config, [train, heldout]),
            *overlap_notes(data),
            *small_data_notes(config, **sizes),
            *general_data_notes(config, model),
        ],
        fingerprints=found,
        known=fingerprints.require_same(folder, found),
        folder=folder,
    )


def refuse_meta_template(config: Config) -> None:
    """ConfigError when a run is given a template for its meta-RM."""
    if config.meta_rm.template_path:
        raise ConfigError(
            "meta_rm.template_path is for evaluate.py --meta-rm: the meta-RM of a run learns from the token ids of the policy's"
            " own prompts, and is asked about votes with the same; leave it out"
        )


def checked_plan(config: Config, model: str) -> Plan:
    """Returns the plan of a run of this model, a folder or hub name. ConfigError when it cannot be trained and sampled here."""
    check_model_folder(model, trained=True)
    plan = planned(config, model)
    check_object_store(config, model)
    check_machine(plan)
    check_engines(config, architecture(model))
    return plan


def policy_tokenizer(config: Config, model: str) -> Tokenizer:
    """Returns the policy's tokenizer. ConfigError when there is none, or it does not do what `prompts.thinking` says."""
    tokenizer = Tokenizer(model, thinking=config.prompts.thinking)
    tokenizer.check_thinking(config.prompts.thinking)
    return tokenizer


def load_teacher(config: Config, train: Sequence[Preference]) -> tuple[Teacher | None, list[TeacherJudgement]]:
    """Returns the cold start's teacher, if there is one, and the judgements of its file. DataError when they cannot be used."""
    cold = config.cold_start
    if not cold.enabled or not cold.teacher:
        return None, []
    if cold.asks_endpoint:
        return Teacher(name=cold.teacher_model, judgements=None), []
    taught = teacher_files.load(Path(cold.teacher), train)
    return Teacher(name=cold.teacher, judgements=taught), taught


def asks_with_hints(config: Config) -> bool:
    """Returns whether the cold start asks for judgements with a hint."""
    cold = config.cold_start
    return cold.enabled and cold.hinted and not cold.reads_judgements


def general_data_notes(config: Config, model: str) -> list[str]:
    """Returns a sentence where a cold start of a language model is given no general data. Of a model below GENERAL_FROM nobody
    expects to answer instructions, so nothing is said."""
    cold = config.cold_start
    if not cold.enabled or cold.general or parameters(config, model) < GENERAL_FROM:
        return []
    return [
        "cold_start.general is empty: the paper mixes in general instruction data, 85 % of its examples, and without it reports"
        " 63.3 in place of 68.8; name JSONL files of such data"
    ]


def check_hub_model(config: Config, model: str, *, trained: bool) -> None:
    """ConfigError when a hub model is quantised and is to be trained, or reads less than `model.context`; for a folder nothing
    is done. Call it once the tokenizer is loaded: the model's config.json came with it, and lies in the cache."""
    folder = None if Path(model).is_dir() else cached_folder(model)
    if folder is None:
        return
    if trained:
        refuse_quantised(folder, model)
    check_context(config, architecture(str(folder)))


def check_adapters(config: Config, model: str) -> None:
    """ConfigError when adapters are to be trained and the model has no place for them."""
    if not config.learner.lora_rank:
        return
    from learner.adapters import planned_shape  # torch and transformers take seconds to import, and an endpoint needs none

    try:
        planned_shape(model, config.learner.lora_rank)
    except ValueError as error:
        raise ConfigError(f"learner.lora_rank = {config.learner.lora_rank}: {error}") from error


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


def format_used(used: Sequence[str]) -> str:
    """Returns a line for each leaf, with a line break before it."""
    return "".join(f"\nused       {line}" for line in used)


def format_skipped(skipped: Mapping[str, int], named: Mapping[str, Sequence[str]]) -> str:
    """Returns a line for the head of a run, with a line break before it, and one for the first row of each reason; "" when
    nothing was skipped."""
    if not skipped:
        return ""
    counts = "\nskipped    " + ", ".join(f"{count} x {reason}" for reason, count in skipped.items())
    return counts + "".join(f"\n           first {reason}: {named[reason][0]}" for reason in skipped if named.get(reason))


def format_notes(notes: Sequence[str]) -> str:
    """Returns a line for each note, with a line break before it."""
    return "".join(f"\nnote       {note}" for note in notes)
