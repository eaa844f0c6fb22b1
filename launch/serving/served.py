"""A server from its options to its end: checked, Ray and the store started, the app run, drained.

choice ─▶ checked ─▶ Cluster (Ray, Redis) ─▶ served_app: HttpWorker ×H, JudgeWorker ×R ─▶ until a signal ─▶ drained
"""

import os
import secrets
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from buffer.cohorts import Cohorts, connected
from buffer.connection import ServerError
from configs.load import ConfigError
from configs.paths import expanded
from launch.cluster.failures import RunFailed
from launch.cluster.served_app import require_free
from launch.judging.evaluation_target import short_name
from launch.judging.prepared_judge import PreparedJudge, prepare, require_meta_rm
from launch.monitoring.plain_text import clean, log_line
from launch.serving.calibration import measured
from launch.serving.cores import engine_cores, leave
from launch.serving.deployed import HttpWorker, JudgeWorker
from launch.serving.door import Keys
from launch.serving.settings import ServerSettings
from launch.setup.signals import end_on_signals
from launch.setup.tokenizer import Tokenizer

LOOPBACK = ("127.", "::1", "localhost")
CALLS = 4096  # that one process works on: what waits is bounded where it comes in, by requests and cohorts
DRAIN_S = 10.0  # beyond the deadline, for answers that are being written
CONNECT_S = 10.0
LOOK_S = 5.0  # between two looks at the app


@dataclass(frozen=True, kw_only=True)
class JudgeChoice:
    """Which judge is served: what `launch.judging.prepared_judge.prepare` takes."""

    source: str
    """A run, a checkpoint, a model folder or a hub name."""
    meta_rm: str
    """Folder of its meta-RM; "": a run knows its own."""
    device: str
    """cpu, cuda or auto."""
    seed: int
    """Of orders and sampling."""
    overrides: Sequence[str]
    """Settings."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where the server is, and how many processes it has."""

    host: str
    """Address that it listens at."""
    port: int
    """Port that it listens at."""
    keys: Path | None
    """File of the keys; None: whoever reaches it may ask."""
    state: str
    """Folder of the store; "": named after the judge."""
    http_workers: int
    """Processes that speak HTTP."""
    judges: int
    """Engines."""
    evaluation: Path | None = None
    """Folder of an evaluation of this judge; None: nobody measured how far its shares are probabilities."""


def serve(choice: JudgeChoice, settings: ServerSettings, places: Places) -> int:
    """Serves until a signal comes. Returns 0 when all requests were answered then.

    Raises:
        ConfigError: Something cannot work; nothing was started.
        RunFailed, TimeoutError: It did not start, or it ended.
    """
    began = time.monotonic()
    _note(f"judge      {choice.source} is read and checked")
    prepared = _checked(choice, settings, places)
    name = short_name(choice.source)
    settings = replace(settings, model=name, meta=bool(prepared.found.meta_rm), version=prepared.found.version)
    if places.evaluation is not None:
        settings = replace(settings, calibration=measured(places.evaluation, prepared, votes=settings.votes))
    folder = Path(expanded(places.state or f"serving/{name}")).absolute()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _collect_metrics_in(folder)
    judge: dict[str, object] = {"made": prepared, "meta_tokenizer": _meta_tokenizer(prepared)}
    end_on_signals()
    _note("starting   Redis and Ray")
    from launch.cluster.ray_cluster import Cluster  # Ray takes seconds to import
    from launch.cluster.served_app import set_serve_variables, stop_app

    set_serve_variables()
    config = prepared.config
    gpus = places.judges if config.cluster.device == "cuda" else 0
    try:
        with Cluster(config, run_id="serve", folder=folder, model="", gpus=gpus, rollouts=False) as cluster:
            end_on_signals()  # again: Ray put its own handlers in place
            address, log = cluster.address(identity(prepared), role="server"), folder / "server.jsonl"
            _note(f"store      {address.public_url}")
            _note(f"log        {log}")
            cohorts = connected(address, timeout_s=CONNECT_S, keep_s=settings.keep_s, most=settings.most_cohorts)
            if left := cohorts.resume():
                _note(f"resumed    {left} groups of an earlier start wait for their verdicts")
            variables = cluster.variables if cluster.owns_ray else cluster.variables | _metrics_elsewhere()
            common = {"settings": settings, "address": address, "log": log}
            on_own_cores = cluster.owns_ray and config.cluster.device == "cpu"
            judge["cores"] = cores = engine_cores(places.judges, port=places.port) if on_own_cores else ()
            try:
                _note("loading    the judge, and what speaks HTTP")
                _start(common, judge, settings, places, gpus=min(1, gpus), start_s=config.waits.start_s, variables=variables)
                if cores:
                    leave(cores)
                what = f"{name}{', with its meta-RM' if settings.meta else ''}, k = {settings.votes}"
                _note(f"ready      http://{places.host}:{places.port} after {time.monotonic() - began:.0f} s: {what}")
                _note("page       that address in a browser; or ask from a shell, in one line:")
                print(f"try        {clean(example(places))}", flush=True)  # unbroken, so that it can be copied
                _wait(settings, cohorts)
            finally:
                stop_app(own_ray=cluster.owns_ray)
    except ServerError as error:
        raise RunFailed(str(error)) from error
    _note("stopped")
    return 0


def identity(prepared: PreparedJudge) -> str:
    """Returns what tells judges apart, in hexadecimal: verdicts of one are none of another, though both use one folder.

    A run is the same judge while it trains, as its verdicts name their policy versions; a model's files are not to change.
    """
    found, run, plan = prepared.found, prepared.found.run, prepared.plan
    models = [found.model, found.meta_rm] if run is None else [] if Path(found.meta_rm).is_relative_to(run) else [found.meta_rm]
    weights = [file.stat() for model in filter(None, models) for file in sorted(Path(model).glob("*.safetensors"))]
    stamps = [(each.st_size, each.st_mtime_ns) for each in weights]
    what = (str(run), models, stamps, bool(found.meta_rm), plan.settings(), plan.template, plan.max_new_tokens)
    return sha256(repr(what).encode()).hexdigest()[:12]


def example(places: Places) -> str:
    """Returns a request that this server answers."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(places.host, f"[{places.host}]" if ":" in places.host else places.host)
    key = "" if places.keys is None else " -H 'Authorization: Bearer KEY'"
    body = """'{"query": "Is the sky blue?", "responses": ["Yes, by day.", "No."]}'"""
    return f"curl {host}:{places.port}/v1/judge{key} --json {body}"


def _start(
    common: Mapping[str, object],
    judge: Mapping[str, object],
    settings: ServerSettings,
    places: Places,
    *,
    gpus: int,
    start_s: float,
    variables: Mapping[str, str],
) -> None:
    """Starts the HTTP workers and the judges, and waits until they answer."""
    from launch.cluster.served_app import Deployment, start_app

    how: dict[str, Any] = {"at_a_time": CALLS, "drain_s": settings.deadline_s + DRAIN_S, "variables": variables}
    front = Deployment(name="http", cls=HttpWorker, arguments={**common, "keys": places.keys}, count=places.http_workers, **how)
    back = Deployment(name="judge", cls=JudgeWorker, arguments={**common, **judge}, count=places.judges, gpus=gpus, **how)
    start_app(front, back, host=places.host, port=places.port, start_s=start_s, note=_note)


def _wait(settings: ServerSettings, cohorts: Cohorts) -> None:
    """Says what is wrong with the server, until a signal comes; then lets it answer what is under way."""
    from launch.cluster.served_app import app_health, drain_app

    told = ""
    try:
        while True:
            time.sleep(LOOK_S)
            if (wrong := app_health()) != told:
                _note(f"note       {wrong or 'all processes of the server run'}")
                told = wrong
    except KeyboardInterrupt:
        limit_s = settings.deadline_s + 2 * DRAIN_S
        _note(f"stopping   no further requests; those under way are answered within {settings.deadline_s:.0f} s")
        if not drain_app(limit_s=limit_s, meanwhile=cohorts.close):  # nobody can join a group any more
            _note(f"note       some requests were not answered within {limit_s:.0f} s")


def _checked(choice: JudgeChoice, settings: ServerSettings, places: Places) -> PreparedJudge:
    """Returns the judge. ConfigError for whatever cannot work, before anything is started."""
    for field in fields(settings):
        value = getattr(settings, field.name)
        if type(value) in (int, float) and field.name not in ("rate", "version") and value <= 0:
            option = "k" if field.name == "votes" else field.name.replace("_", "-")
            raise ConfigError(f"--{option} {value}: give a number above 0")
    for option, count in (("--http-workers", places.http_workers), ("--judges", places.judges)):
        if count < 1:
            raise ConfigError(f"{option} {count}: give 1 or more")
    if settings.votes > settings.most_votes:
        raise ConfigError(f"--k {settings.votes}: it is above --most-votes {settings.most_votes}")
    if settings.collect_s >= settings.deadline_s:
        raise ConfigError(f"--collect-s {settings.collect_s:g}: give less than --deadline-s {settings.deadline_s:g}")
    if places.keys is None and not places.host.startswith(LOOPBACK):
        raise ConfigError(f"--host {places.host}: others reach it there; give --keys FILE, so that not everybody may ask")
    require_free(places.host, places.port)
    try:
        Keys(places.keys)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--keys: {error}") from None
    prepared = prepare(
        choice.source,
        model="",
        meta_rm=choice.meta_rm,
        engine="vllm",
        device=choice.device,
        seed=choice.seed,
        overrides=choice.overrides,
    )
    if choice.meta_rm:
        require_meta_rm(prepared.found.meta_rm)
    return prepared


def _meta_tokenizer(prepared: PreparedJudge) -> Tokenizer | None:
    folder = prepared.found.meta_rm
    return Tokenizer(folder, thinking=prepared.config.prompts.thinking) if folder else None


def _collect_metrics_in(folder: Path) -> None:
    """Lets every process count into one folder. What an earlier server counted there goes."""
    from launch.serving import metrics

    metrics_folder = folder / "metrics"
    metrics_folder.mkdir(exist_ok=True)
    for file in metrics_folder.glob("*.db"):
        file.unlink()
    os.environ[metrics.FOLDER] = str(metrics_folder)


def _metrics_elsewhere() -> dict[str, str]:
    """Returns the variable that lets the processes of a Ray of others, whose nodes share no folder, count on their node."""
    from launch.serving import metrics

    return {metrics.FOLDER: str(Path(tempfile.gettempdir()) / f"spct-serving-{secrets.token_hex(4)}")}


def _note(text: str) -> None:
    print(log_line(text), flush=True)
