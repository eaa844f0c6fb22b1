"""What W&B would refuse after a minute, with Ray up and engines loaded, is refused before anything starts, in one sentence."""

import os
from pathlib import Path

import pytest

from configs.load import ConfigError
from configs.sections import TrackingConfig
from launch.monitoring import processes, wandb_check
from launch.monitoring.wandb_check import require_usable
from tests.fake_wandb_server import FakeWandbServer

HOST = "https://wandb.example"
KEY = "0123456789abcdef" * 3


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variables of W&B, and no credentials at home."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_BASE_URL", HOST)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("WANDB_API_KEY", "short-key", "W&B: WANDB_API_KEY invalid: API key must have 40+ characters"),
        ("WANDB_API_KEY", "x" * 45 + "!", "W&B: WANDB_API_KEY invalid: API key may only contain"),
        ("WANDB_API_KEY", f" {KEY}", "WANDB_API_KEY: API key cannot start or end with whitespace"),
        ("WANDB_PROJECT", "team/project", "WANDB_PROJECT='team/project': Invalid project name"),
        ("WANDB_ENTITY", "team/project", "WANDB_ENTITY='team/project' is no name of a W&B user or team: correct the variable"),
        ("WANDB_ENTITY", "my team", "WANDB_ENTITY='my team' is no name"),
        ("WANDB_BASE_URL", "nonsense", "WANDB_BASE_URL='nonsense': "),
        ("WANDB_BASE_URL", "http://wandb.ai", "WANDB_BASE_URL='http://wandb.ai': "),
        ("WANDB_CONSOLE", "maybe", "WANDB_CONSOLE='maybe': "),
        ("WANDB_MODE", "shared", "WANDB_MODE='shared' is not supported: use online, offline or disabled"),
        ("WANDB_X_STATS_SAMPLING_INTERVAL", "often", "WANDB_X_STATS_SAMPLING_INTERVAL='often': "),
    ],
)
def test_an_odd_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        require_usable(TrackingConfig(), "run-1", os.environ)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)
    assert KEY not in str(caught.value)
    if name == "WANDB_API_KEY":
        assert value not in str(caught.value)


@pytest.mark.parametrize("project", ["team/project", "a:b", "50%", "x" * 129, " ", "", "two\nlines", "\x1b[2J"])
def test_an_odd_project_is_named(project: str) -> None:
    with pytest.raises(ConfigError, match=r"^tracking\.project = .* choose another"):
        require_usable(TrackingConfig(project=project), "run-1", os.environ)


@pytest.mark.parametrize("run_id", ["evaluate-my:run", "a#b", " blank"])
def test_an_odd_name_of_a_folder_is_named(run_id: str) -> None:
    with pytest.raises(ConfigError, match=r"^run\.id .* choose another name of the run folder"):
        require_usable(TrackingConfig(), run_id, os.environ)


def test_online_without_a_key_is_refused_rather_than_asked_on_stdin() -> None:
    with pytest.raises(
        ConfigError, match=r"^tracking\.mode = online: there is no key for https://wandb\.example: set WANDB_API_KEY"
    ):
        require_usable(TrackingConfig(mode="online"), "run-1", os.environ)


def test_what_is_fine_passes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    require_usable(TrackingConfig(project="my project-1.0"), "tiny-20260101-120000-s0", os.environ)
    monkeypatch.setattr(wandb_check, "_require_known", lambda credentials: None)
    (tmp_path / "netrc").write_text(f"machine wandb.example\n  login user\n  password {KEY}\n")
    require_usable(TrackingConfig(mode="online"), "", os.environ)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_ENTITY", "a-team_1")
    monkeypatch.setenv("WANDB_TAGS", "a,b")
    monkeypatch.setenv("WANDB_SILENT", "true")
    require_usable(TrackingConfig(), "run-1", os.environ)


def test_a_key_that_the_server_does_not_know_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    server = FakeWandbServer()
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    require_usable(TrackingConfig(), "run-1", os.environ)
    server.known = False
    with pytest.raises(
        ConfigError, match=r"^W&B: Failed to authenticate with http://127.*permission denied; correct WANDB_API_KEY"
    ):
        require_usable(TrackingConfig(), "run-1", os.environ)
    server.close()
    assert not processes.children_named("wandb-core")


@pytest.mark.full
def test_a_server_that_cannot_be_reached_is_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    require_usable(TrackingConfig(), "run-1", os.environ)


def test_an_offline_run_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "short-key")
    require_usable(TrackingConfig(mode="offline"), "run-1", os.environ)


def test_a_run_without_wandb_asks_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "team/project")
    require_usable(TrackingConfig(mode="disabled", project="/"), "a:b", os.environ)
