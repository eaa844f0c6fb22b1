"""What an evaluation checks before anything starts: data, judge, meta-RM, folder, and what is in it already."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from buffer.json_text import JsonError, read_object
from configs.load import ConfigError
from configs.schema import Config
from grm.benchmarks import OVERALL
from grm.preferences import Preference
from launch.judging import votes
from launch.judging.endpoint_address import texts_of
from launch.judging.evaluation_target import EvaluationTarget
from launch.judging.results import TABLE, tracked_id
from launch.judging.vote_plan import VotePlan
from launch.monitoring.tensorboard_files import require_installed
from launch.monitoring.wandb_check import require_usable
from launch.setup.context_limit import check_context
from launch.setup.engine_checks import check_engines
from launch.setup.model_files import architecture, fingerprint, is_same, resolve
from launch.setup.model_integrity import check_model_folder
from launch.setup.places import scratch_root
from launch.setup.preference_data import PreferenceData, load_heldout, require_unique_ids
from launch.setup.preflight import check_hub_model, format_skipped, format_used, policy_tokenizer
from launch.setup.shown_fields import require_shown, shown_notes
from launch.setup.tokenizer import Tokenizer
from learner import checkpoint


def labelled_preferences(config: Config, note: votes.Notify) -> PreferenceData:
    """Load the held-out preferences, and print what is skipped. ConfigError when ids or subsets cannot be told apart."""
    loaded = load_heldout(config, beside=())
    if any(preference.subset == OVERALL for preference in loaded.preferences):
        raise ConfigError(f"data: a subset is named {OVERALL!r}, as the table's last row is; rename it")
    require_unique_ids(loaded)
    require_shown(config, loaded)
    for each in shown_notes(config, [loaded]):
        note(f"note       {each}")
    if len(loaded.sources) > 1:
        print(format_used([loaded.describe()]).strip())
    if loaded.skipped:
        print(format_skipped(loaded.skipped, loaded.named).strip())
    return loaded


def check_place(config: Config, target: EvaluationTarget) -> None:
    """ConfigError, EndpointError where the judge cannot be asked at its address, or the results cannot be tracked."""
    if target.endpoint:
        texts_of(target.endpoint, target.model)
    if target.early_stop:
        _check_early_stop(config, target)
    require_usable(config.tracking, tracked_id(target.out), os.environ)
    require_installed(config.tracking)
    scratch_root()


def checked(config: Config, target: EvaluationTarget) -> tuple[str, Tokenizer | None]:
    """Returns the meta-RM's folder, "" without one, and the tokenizer of our own engines. ConfigError, EndpointError for what
    would otherwise come to light when an engine starts, or when all is judged."""
    check_place(config, target)
    meta_rm = resolve(target.meta_rm) if target.meta_rm else ""
    kinds = (architecture(meta_rm) or {}).get("architectures") if meta_rm else None
    if isinstance(kinds, list) and not any("SequenceClassification" in str(kind) for kind in kinds):
        raise ConfigError(
            f"--meta-rm {target.meta_rm}: a {', '.join(map(str, kinds))}, which scores nothing; give a meta-RM's folder:"
            " checkpoints/meta-rm/version-*/model of a run"
        )
    if meta_rm:
        _check_meta_rm(config, meta_rm)
    if target.endpoint:
        return meta_rm, None
    model = resolve(config.model.path)
    check_model_folder(model, trained=False)
    check_context(config, architecture(model))
    check_engines(config, architecture(model))
    tokenizer = policy_tokenizer(config, model)
    check_hub_model(config, model, trained=False)
    return meta_rm, tokenizer


def _check_early_stop(config: Config, target: EvaluationTarget) -> None:
    """ConfigError where votes cannot be spared."""
    if target.meta_rm:
        raise ConfigError(
            "--early-stop: a meta-RM chooses among all votes, so none can be spared; leave out --early-stop or --meta-rm"
        )
    if len(config.eval.votes) != 1:
        raise ConfigError(
            f"--early-stop: votes are spared towards one number of them, and {len(config.eval.votes)} are to be counted; give"
            " one, as --k 32"
        )


def _check_meta_rm(config: Config, meta_rm: str) -> None:
    folder = Path(meta_rm).parent
    try:
        untrained = (folder / checkpoint.RECORD).is_file() and not checkpoint.read(folder).version
    except checkpoint.CheckpointError as error:
        raise ConfigError(f"--meta-rm: {error}; give another") from error
    if untrained:
        raise ConfigError(f"--meta-rm: {meta_rm} took no step in its run, so its scores mean nothing; give another")
    try:
        check_model_folder(meta_rm, trained=True)  # the meta scorer reads it as the learners do
        Tokenizer(meta_rm, thinking=config.prompts.thinking)
    except ConfigError as error:
        raise ConfigError(f"--meta-rm: {str(error).removeprefix('model.path: ')}") from error


def make_folder(out: Path) -> None:
    """Make the folder of the results. ConfigError when that cannot be done."""
    try:
        out.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(f"--out: cannot make {out}: {error.strerror}; choose another folder") from None


def what_judgements_depend_on(config: Config, target: EvaluationTarget, plan: VotePlan, *, begun: str) -> dict[str, Any]:
    """Returns what must be the same for judgements on disk to be used again.

    `begun` is the model's fingerprint in them, if any: it stands for the same model's later commits on a hub, too.
    """
    return {
        "model": target.model,
        "endpoint": target.endpoint,
        "fingerprint": "" if target.endpoint else model_digest(config, begun),
        "template": plan.template.graded,
        "max_new_tokens": plan.max_new_tokens,
        "extra_body": target.extra_body,
        **plan.settings(),
    }


def model_digest(config: Config, begun: str) -> str:
    """Returns the fingerprint of the model, or `begun` where that is the same model's at an earlier commit of a hub."""
    digest = fingerprint(resolve(config.model.path))
    with suppress(ConnectionError):  # nobody can say, so it is another
        return begun if is_same(config.model.path, begun, digest) else digest
    return digest


def require_same_data(out: Path, data: Sequence[str]) -> None:
    """ConfigError when the folder holds the results of other data, which would be written over."""
    path = out / TABLE
    if not path.exists():
        return
    try:
        held = read_object(path).get("data")
    except JsonError as error:
        raise ConfigError(f"--out: {error}; choose another folder") from None
    if held is not None and sorted(held) != sorted(data):
        named = ", ".join(map(str, held))
        raise ConfigError(f"--out {out}: holds the results on {named}, which would be lost; choose another folder")


def long_prompts(plan: VotePlan, tokenizer: Tokenizer, preferences: Sequence[Preference], limit: int) -> dict[str, int]:
    """Return {preference: tokens of its prompt} of those that are over the limit, in some order of their responses."""
    found = {}
    for preference in preferences:
        orders = {asked.request.message for asked in plan.requests(preference.question, tokenizer.escape_special_tokens)}
        longest = max(len(tokenizer.encode(message)) for message in orders)
        if longest > limit:
            found[preference.question.id] = longest
    return found


def check_lengths(
    plan: VotePlan, tokenizer: Tokenizer, preferences: Sequence[Preference], limit: int, note: votes.Notify
) -> None:
    """Say which prompts are over `limit` tokens and get no answer. ConfigError when none fits."""
    found = long_prompts(plan, tokenizer, preferences, limit)
    if not found:
        return
    name, tokens = next(iter(found.items()))
    which = f"{len(found)} of {len(preferences)} prompts are over the limit of {limit} tokens (the first: {name}, {tokens})"
    if len(found) == len(preferences):
        raise ConfigError(f"{which}: raise model.context, or lower rollout.max_new_tokens")
    note(f"note       {which} and get no answer; raise model.context, or lower rollout.max_new_tokens")
