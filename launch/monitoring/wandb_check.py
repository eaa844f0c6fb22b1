"""What W&B would refuse when a run begins, with Ray up and engines loaded: refused before that, by its own validators."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from configs.load import ConfigError
from configs.sections import TrackingConfig
from launch.monitoring.redaction import SECRET

if TYPE_CHECKING:
    from wandb.sdk.lib import wbauth

Mode = Literal["auto", "offline", "online", "disabled"]
UNREACHED = "Failed to execute API request"  # in wandb's error where the server gave no answer
ENTITY = r"[\w.-]{1,128}"  # a user or team, as in the address of its page


def chosen_mode(mode: Mode, environ: Mapping[str, str]) -> Mode:
    """Resolve `auto`: to WANDB_MODE if it is set, else to online if there is a key, else to offline.

    Raises:
        ConfigError: WANDB_MODE is set to something else.
    """
    if mode != "auto":
        return mode
    requested = environ.get("WANDB_MODE", "")
    modes: dict[str, Mode] = {
        "online": "online",
        "run": "online",
        "offline": "offline",
        "dryrun": "offline",
        "disabled": "disabled",
        "": "online" if environ.get("WANDB_API_KEY") else "offline",
    }
    if requested not in modes:
        raise ConfigError(f"WANDB_MODE={requested!r} is not supported: use online, offline or disabled")
    return modes[requested]


def require_usable(tracking: TrackingConfig, run_id: str, environ: Mapping[str, str]) -> None:
    """Check all that W&B would refuse when the run begins. Its server is asked whether it knows the key, where one is used; one
    that does not answer within ten seconds is for later: the run is then tracked offline.

    Raises:
        ConfigError: a variable WANDB_*, `tracking.project`, the run's id or the key cannot be used, or there is no key.
    """
    mode = chosen_mode(tracking.mode, environ)
    if mode == "disabled":
        return
    import wandb
    from wandb.sdk.lib import wbauth

    settings = wandb.Settings()
    for name in sorted(name for name in environ if name.startswith("WANDB_")):
        with _refused(f"{name}={environ[name]!r}" if not SECRET.search(name) else name, "correct the variable, or unset it"):
            settings.update_from_env_vars({name: environ[name]})
    if not re.fullmatch(ENTITY, settings.entity or "a"):
        raise ConfigError(
            f"WANDB_ENTITY={settings.entity!r} is no name of a W&B user or team: correct the variable, or unset it"
        )
    with _refused(f"tracking.project = {tracking.project!r}", "choose another name"):
        settings.project = tracking.project
    if not tracking.project.strip() or not tracking.project.isprintable():
        raise ConfigError(f"tracking.project = {tracking.project!r}: is no name; choose another")
    with _refused(f"run.id {run_id!r}", "choose another name of the run folder"):
        settings.run_id = run_id or None
    if mode == "online":
        with _refused("W&B", "correct the key, or choose tracking.mode=offline"):
            known = wbauth.authenticate_session(host=settings.base_url, source="preflight", prompt=False, update_session=False)
        if known is None:
            raise ConfigError(
                f"tracking.mode = online: there is no key for {settings.base_url}: set WANDB_API_KEY, run `wandb login`, or"
                " choose tracking.mode=offline"
            )
        _require_known(known)


def _require_known(credentials: wbauth.Auth) -> None:
    """ConfigError when W&B's server answers that it does not know the key."""
    import wandb

    try:
        credentials.verify()
    except wandb.errors.AuthenticationError as error:
        if UNREACHED not in str(error):
            remedy = "correct WANDB_API_KEY, run `wandb login`, or choose tracking.mode=offline"
            raise ConfigError(f"W&B: {str(error).rstrip('.')}; {remedy}") from None
    finally:
        wandb.teardown()  # the process that asked


@contextmanager
def _refused(what: str, remedy: str) -> Iterator[None]:
    """Turn what W&B refuses into a ConfigError. The value in error is not quoted: it may be a secret."""
    import wandb

    try:
        yield
    except ValidationError as error:
        raise ConfigError(f"{what}: {error.errors(include_input=False, include_url=False)[0]['msg']}; {remedy}") from None
    except (wandb.errors.Error, ValueError, TypeError) as error:
        raise ConfigError(f"{what}: {str(error).rstrip('.')}; {remedy}") from None
