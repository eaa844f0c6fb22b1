"""From the name of a judge to one that can be opened: what can be checked is checked first.

source ─▶ find_judge ─▶ config: the preset `evaluate`, the judge's own settings, overrides ─▶ checks ─▶ PreparedJudge
PreparedJudge.open ─▶ vLLM, transformers, or an endpoint
"""

import importlib.util
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from configs.load import EVALUATION, ConfigError, load
from configs.schema import Config
from launch.judging.endpoint import Endpoint, EndpointLimits
from launch.judging.endpoint_address import texts_of
from launch.judging.protocol import Judge
from launch.judging.vote_plan import VotePlan, vote_plan
from launch.setup.context_limit import check_context
from launch.setup.engine_checks import check_engines
from launch.setup.engine_settings import engine_settings
from launch.setup.judge_settings import JudgeSettings, as_overrides, differences, overrides_of_run, read_judge, require_judge
from launch.setup.judge_source import JudgeSource, find_judge
from launch.setup.model_files import architecture, resolve
from launch.setup.model_integrity import check_model_folder
from launch.setup.preflight import check_hub_model, policy_tokenizer
from launch.setup.prompt_source import prompt_template
from launch.setup.run_config import load_run_config
from launch.setup.tokenizer import Tokenizer

ENGINES = ("vllm", "transformers")


class ClosableJudge(Judge, Protocol):
    """A `Judge` that ends."""

    def close(self) -> None:
        """End it."""
        ...


def prepare(
    source: str,
    *,
    model: str,
    meta_rm: str,
    engine: str,
    device: str,
    seed: int,
    overrides: Sequence[str],
) -> "PreparedJudge":
    """Returns a judge that can be opened. Arguments and errors as of `spct.Judge`."""
    engine, found = _engine(engine), find_judge(source)
    if found.endpoint:
        texts_of(found.endpoint, model)
    if bool(found.endpoint) != bool(model):
        remedy = "give model=, the name of the served model" if found.endpoint else "leave model= out: the source names it"
        raise ConfigError(f"{source}: {remedy}")
    settings = None if found.endpoint else read_judge(found.model)
    own = _own(found, settings, overrides)
    chosen = [f"run.seed={seed}", f"model.path={json.dumps(found.model or 'tiny', ensure_ascii=False)}"]
    placed = [f"cluster.device={_device(device)}"]
    config = load_run_config(EVALUATION, [*placed, *own, *overrides, *chosen])
    for note in differences(settings, config) if settings else ():
        warnings.warn(f"{source}: {note}", stacklevel=3)
    found = replace(found, meta_rm=resolve(meta_rm) if meta_rm else found.meta_rm)
    if found.endpoint:
        return PreparedJudge(config=config, found=found, served=model, engine=engine, tokenizer=None)
    check_model_folder(found.model, trained=False)
    check_context(config, architecture(found.model))
    if engine == "vllm":
        check_engines(config, architecture(found.model))
    tokenizer = policy_tokenizer(config, found.model)
    check_hub_model(config, found.model, trained=False)
    responses = max(settings.responses, default=0) if settings else 0
    return PreparedJudge(config=config, found=found, served="", engine=engine, tokenizer=tokenizer, responses=responses)


def _own(found: JudgeSource, settings: JudgeSettings | None, given: Sequence[str]) -> list[str]:
    """Returns how the judge says that it is asked, as overrides. ConfigError when it is none."""
    if settings is None:
        return overrides_of_run(load(found.run / "config.yaml")) if found.run else []
    require_judge(settings, found.model, "meta_rm=")
    return as_overrides(settings, found.model, given)


@dataclass(frozen=True, kw_only=True)
class PreparedJudge:
    """A judge that was checked. `open` starts what it needs."""

    config: Config
    """Of its prompts, lengths and machine."""
    found: JudgeSource
    """Where it lies."""
    served: str
    """Name of the served model; "" in this process."""
    engine: str
    """`vllm` or `transformers`, in this process."""
    tokenizer: Tokenizer | None
    """Its tokenizer; None behind a server."""
    responses: int = 0
    """Most responses that it saw in training; 0 where nobody says."""

    @property
    def start_s(self) -> float:
        """Time that opening it may take, in seconds."""
        return self.config.waits.start_s

    @property
    def plan(self) -> VotePlan:
        """How it is asked, but for the number of votes."""
        return replace(vote_plan(self.config, prompt_template(self.config), 0), expected_scores=False)

    def open(self) -> ClosableJudge:
        """Returns it, open."""
        config = self.config
        if self.tokenizer is None:
            limits = EndpointLimits(concurrency=config.rollout.workers * config.rollout.max_groups)
            endpoint = Endpoint(self.found.endpoint, self.served, limits=limits)
            try:
                endpoint.check()
            except BaseException:
                endpoint.close()
                raise
            return endpoint
        if self.engine == "transformers":
            from launch.judging.transformers_judge import TransformersJudge

            return TransformersJudge(config, model=self.found.model, tokenizer=self.tokenizer)
        from actors.vllm_engine import VllmEngine
        from launch.judging.local_judge import LocalJudge

        settings = engine_settings(config, model=self.found.model, number=0, tokenizer=self.tokenizer)
        return LocalJudge(config, engine=VllmEngine(settings), tokenizer=self.tokenizer)


def require_meta_rm(meta_rm: str) -> None:
    """ConfigError when a judge has no meta-RM to be asked; `meta_rm` is its folder."""
    if not meta_rm:
        raise ConfigError("meta: this judge has no meta-RM that took a step; give meta_rm=, or leave meta out")


def _engine(engine: str) -> str:
    if engine == "auto":
        return "vllm" if importlib.util.find_spec("vllm") else "transformers"
    if engine not in ENGINES:
        raise ConfigError(f"engine = {engine!r}: give auto, {' or '.join(ENGINES)}")
    return engine


def _device(device: str) -> str:
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
