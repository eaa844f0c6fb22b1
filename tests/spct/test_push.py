"""`spct push`: a judge's files arrive at a hub, whole, and no others; what cannot be published is refused before that."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from huggingface_hub import constants

from launch.setup.model_files import TINY
from spct.command import main
from tests.spct.base_judge import base_judge
from tests.spct.fake_hub import FakeHub, started


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with started() as running:
        yield running


@pytest.fixture
def judge(tmp_path: Path) -> Path:
    """A judge's folder, and in it a file that is nobody's."""
    folder = base_judge(tmp_path / "judge")
    (folder / "optimizer.pt").write_bytes(b"x" * 100)
    return folder


@dataclass(frozen=True)
class Pushed:
    """What `spct push` ended with."""

    status: int
    out: str
    err: str


@pytest.fixture
def push(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Pushed]:
    """`spct push` to the fake hub. What huggingface_hub reads of the environment at its import is set where it keeps it."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nonexistent")
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", "/nonexistent")

    def push(*arguments: str, token: str = "hf_secret") -> Pushed:
        monkeypatch.delenv("HF_TOKEN", raising=False)
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        status = main(["push", *arguments])
        return Pushed(status, *capsys.readouterr())

    return push


def test_the_files_of_a_judge_arrive_and_no_others(hub: FakeHub, judge: Path, push: Callable[..., Pushed]) -> None:
    ended = push(str(judge), "me/mine")
    assert ended.status == 0, ended.err
    assert hub.repositories == {"me/mine": True}  # private
    sent = {path.name: path.read_bytes() for path in judge.iterdir() if path.name != "optimizer.pt"}
    assert hub.files["me/mine"] == sent
    assert {"README.md", "judge.json", "judge_template.txt", "model.safetensors", "tokenizer.json"} <= sent.keys()
    assert f"uploaded   {hub.url}/me/mine/commit/abc" in ended.out
    assert 'spct.Judge("me/mine")' in ended.out
    assert push(str(judge), "me/mine", "--public").status == 0  # again, into the same


def test_a_token_that_is_not_known_is_refused_with_the_remedy(hub: FakeHub, judge: Path, push: Callable[..., Pushed]) -> None:
    ended = push(str(judge), "me/mine", token="hf_other")
    assert ended.status == 2
    assert "the hub refuses me/mine" in ended.err
    assert "the token (HF_TOKEN) needs the right to write there" in ended.err
    assert "hf_other" not in ended.err
    assert hub.files == {}


def test_without_a_token_nothing_is_asked(hub: FakeHub, judge: Path, push: Callable[..., Pushed]) -> None:
    ended = push(str(judge), "me/mine", token="")
    assert ended.status == 2
    assert "there is no token for the hub: set HF_TOKEN, or run `hf auth login`" in ended.err
    assert hub.repositories == {}


def test_a_hub_that_fails_is_a_failure_to_be_tried_again(hub: FakeHub, judge: Path, push: Callable[..., Pushed]) -> None:
    hub.fail["/commit/"] = 400
    ended = push(str(judge), "me/mine")
    assert ended.status == 1
    assert "failed: the hub refuses me/mine: no right to write here" in ended.err
    assert "start it again to go on" in ended.err


def test_a_hub_that_is_not_there_is_a_failure_too(
    judge: Path, push: Callable[..., Pushed], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    ended = push(str(judge), "me/mine")
    assert ended.status == 1
    assert "failed: the hub at http://127.0.0.1:1 gave no answer" in ended.err


def test_a_dry_run_shows_files_and_card(judge: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(judge), "me/mine", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "model.safetensors" in shown
    assert "optimizer.pt" not in shown
    assert "# mine: " in shown


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([str(TINY), "me/mine"], "it has no judge.json, which every model that is trained here has"),
        (["http://127.0.0.1:1/v1", "me/mine"], "a server has no files to upload"),
        (["{judge}", "mine"], "write OWNER/NAME, as me/my-judge"),
        (["{judge}", "me/mi ne"], "me/mi ne: "),
    ],
)
def test_what_cannot_be_published_is_refused(
    judge: Path, arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", *(each.replace("{judge}", str(judge)) for each in arguments)]) == 2
    assert why in capsys.readouterr().err


def test_adapters_alone_are_refused(judge: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (judge / "model.safetensors").unlink()
    assert main(["push", str(judge), "me/mine"]) == 2
    assert "no weights" in capsys.readouterr().err
