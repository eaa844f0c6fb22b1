"""judge.json: how a judge wants to be asked, beside the weights that were trained so.

    run ─▶ settings_of ─▶ judge.json, judge_template*.txt in the model's folder ─▶ read_judge ─▶ overrides of a config

The settings are those that judgements depend on. `differences` says where a config would ask in another way.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from buffer.json_text import JsonError, read_object
from configs.load import ConfigError
from configs.schema import Config
from grm.judgement import ScoreRange
from grm.preferences import Preference
from grm.prompts import STYLES, template
from launch.setup.prompt_source import prompt_template
from launch.setup.tokenizer import Tokenizer

FILE, TEMPLATE, SINGLE = "judge.json", "judge_template.txt", "judge_template_single.txt"
KINDS = {"judge": "a judge", "meta-rm": "a meta-RM"}


class JudgeSettings(BaseModel):
    """What judge.json holds. Fields of later versions are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: Literal["judge", "meta-rm"]
    """A judge, which writes judgements, or a meta-RM, which reads them."""
    style: str
    """The shipped template that it was trained with, "" for one of the user's own."""
    principles: bool
    """Whether it writes principles."""
    template: str
    """Text of the prompt for scores 1..10, with its placeholders (`grm/prompts.py`); judge_template.txt holds it as well."""
    template_single: str | None
    """Text of the prompt for the verdict 0 or 1 on a single response, in training; None: there is none."""
    scale: tuple[int, int]
    """The lowest and the highest score that the prompt asks for."""
    responses: tuple[int, ...]
    """The numbers of responses that it saw in training, ascending."""
    show: tuple[Literal["reference", "criteria"], ...]
    """Fields beside the query that it was shown."""
    thinking: bool
    """Whether it thinks before it judges: `enable_thinking` of its chat template."""
    context: int
    """Longest prompt and completion together, in tokens."""
    max_new_tokens: int
    """Longest completion, in tokens."""
    clip_scores: bool = False
    """Whether scores outside of the scale are taken as the nearest inside."""
    stop: tuple[str, ...]
    """Texts of the tokens that end a completion."""
    stop_token_ids: tuple[int, ...]
    """Their ids."""


def settings_of(config: Config, preferences: Sequence[Preference], tokenizer: Tokenizer) -> JudgeSettings:
    """Returns the settings of a judge that is trained under a config on these preferences."""
    asked = prompt_template(config)
    ends = (tokenizer.end_token, *tokenizer.other_ends)
    return JudgeSettings(
        kind="judge",
        style="" if config.prompts.template_path else config.prompts.style,
        principles=config.prompts.principles,
        template=asked.graded,
        template_single=asked.verdict,
        scale=ScoreRange.GRADED.value,
        responses=tuple(sorted({len(preference.question.responses) for preference in preferences})),
        show=tuple(config.prompts.show),
        thinking=config.prompts.thinking,
        context=config.model.context,
        max_new_tokens=config.rollout.max_new_tokens,
        clip_scores=config.eval.clip_scores,
        stop=tuple(map(tokenizer.spelling, ends)),
        stop_token_ids=ends,
    )


def settings_files(settings: JudgeSettings) -> dict[str, str]:
    """Returns {name of a file in the model's folder: its text}."""
    files = {FILE: json.dumps(settings.model_dump(), indent=2, ensure_ascii=False) + "\n", TEMPLATE: settings.template + "\n"}
    return files | ({} if settings.template_single is None else {SINGLE: settings.template_single + "\n"})


def read_judge(model: str) -> JudgeSettings | None:
    """Returns the settings of a model's folder or hub name; None where it has none. ConfigError when they cannot be read."""
    file = _file(model, FILE)
    if file is None:
        return None
    try:
        return JudgeSettings.model_validate(read_object(file))
    except (JsonError, ValidationError) as error:
        remedy = "restore it, or remove it and give the settings"
        raise ConfigError(f"{file} is not as a run wrote it ({_first(error)}); {remedy}") from None


def require_judge(settings: JudgeSettings, model: str, option: str) -> None:
    """ConfigError when the settings are those of a meta-RM; `option` is where that would be named."""
    if settings.kind != "judge":
        raise ConfigError(f"{model}: is a meta-RM, which writes no judgements; name it as {option}, beside its judge")


def as_overrides(settings: JudgeSettings, model: str, given: Sequence[str] = ()) -> list[str]:
    """Returns settings of a model as `section.key=value`, to stand before those that are given.

    Args:
        settings: The model's.
        model: Its folder or hub name.
        given: Overrides of the command line. A style among them replaces a template of the model's own.

    Raises:
        ConfigError: The template of the model's own is missing.
    """
    shipped = settings.style in STYLES and template(settings.style, principles=settings.principles).graded == settings.template
    values: dict[str, object] = {
        "prompts.show": list(settings.show),
        "prompts.thinking": settings.thinking,
        "model.context": settings.context,
        "rollout.max_new_tokens": settings.max_new_tokens,
        "eval.clip_scores": settings.clip_scores,
    }
    if shipped:
        values |= {"prompts.style": settings.style, "prompts.principles": settings.principles}
    elif any(override.startswith("prompts.style=") for override in given):
        pass
    elif (file := _file(model, TEMPLATE)) is not None:
        values["prompts.template_path"] = str(file)
    else:
        raise ConfigError(f"{model}: its {FILE} names a template of its own, and there is no {TEMPLATE} beside it; restore it")
    return _overrides(values)


def overrides_of_run(config: Config) -> list[str]:
    """Returns the settings of a run whose models have no judge.json, as an older program wrote them."""
    names = ("style", "template_path", "principles", "show", "thinking")
    values = {f"prompts.{name}": getattr(config.prompts, name) for name in names}
    values |= {"model.context": config.model.context, "rollout.max_new_tokens": config.rollout.max_new_tokens}
    values["eval.clip_scores"] = config.eval.clip_scores
    return _overrides(values)


def differences(settings: JudgeSettings, config: Config) -> list[str]:
    """Returns where a config asks a judge in another way than it was trained, a sentence each."""
    asked = {
        "prompts.style or prompts.template_path": (settings.template, prompt_template(config).graded),
        "prompts.show": (settings.show, tuple(config.prompts.show)),
        "prompts.thinking": (settings.thinking, config.prompts.thinking),
        "eval.clip_scores": (settings.clip_scores, config.eval.clip_scores),
    }
    return [
        f"{leaf}: the judge was trained with another value, says its {FILE}{_values(trained, now)}"
        for leaf, (trained, now) in asked.items()
        if trained != now
    ]


def _overrides(values: Mapping[str, object]) -> list[str]:
    return [f"{leaf}={json.dumps(value, ensure_ascii=False)}" for leaf, value in values.items()]


def _first(error: JsonError | ValidationError) -> str:
    if isinstance(error, JsonError):
        return str(error)
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def _values(trained: object, now: object) -> str:
    """Returns two short values as part of a sentence; templates are too long for one."""
    return "" if isinstance(trained, str) else f": {json.dumps(trained)}, and is asked with {json.dumps(now)}"


def _file(model: str, name: str) -> Path | None:
    """Returns a file of a model's folder, or of the hub's; None where there is none, or nobody can say."""
    if Path(model).is_dir():
        return file if (file := Path(model) / name).is_file() else None
    from transformers.utils import cached_file  # seconds to import

    quietly = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    found = cached_file(model, name, _raise_exceptions_for_gated_repo=False, **quietly)
    return None if found is None else Path(found)
