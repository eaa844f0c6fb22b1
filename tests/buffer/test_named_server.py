"""The password of the environment goes to no server that a run folder alone names."""

import os
from pathlib import Path

import pytest

from buffer.connection import ServerError
from buffer.named_server import require_named_server

URL = "redis://me@db.example:6380/1"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("SPCT_REDIS_URL", "SPCT_REDIS_PASSWORD"):
        monkeypatch.delenv(variable, raising=False)
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    (folder / "config.yaml").touch(mode=0o600)
    return folder


def test_a_server_without_a_password_is_joined_for_a_folder_of_ones_own(folder: Path) -> None:
    require_named_server(URL, folder)


def test_a_password_is_sent_to_the_server_that_the_user_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPCT_REDIS_PASSWORD", "pw")
    with pytest.raises(
        ServerError, match=r"redis://db.example:6380/1, where SPCT_REDIS_PASSWORD would be sent: .*SPCT_REDIS_URL="
    ):
        require_named_server(URL, folder)
    for other in ("redis://db.example", "redis://other.example:6380/1", "unix:///db.example"):
        monkeypatch.setenv("SPCT_REDIS_URL", other)
        with pytest.raises(ServerError, match="would be sent"):
            require_named_server(URL, folder)
    monkeypatch.setenv("SPCT_REDIS_URL", "rediss://DB.example:6380")
    require_named_server(URL, folder)
    monkeypatch.setenv("SPCT_REDIS_URL", "db.example:6380")
    with pytest.raises(ServerError, match="SPCT_REDIS_URL: expected redis://"):
        require_named_server(URL, folder)


def test_a_folder_that_others_can_write_names_no_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (folder, folder / "config.yaml"):
        mode = path.stat().st_mode
        path.chmod(mode | 0o020)
        with pytest.raises(ServerError, match=rf"{path} can be written by other users, and it names .*if that server is yours"):
            require_named_server(URL, folder)
        path.chmod(mode)
    (folder / "config.yaml").rename(folder / "c.yaml")
    (folder / "config.yaml").symlink_to("c.yaml")
    with pytest.raises(ServerError, match=r"config\.yaml is a link"):
        require_named_server(URL, folder)
    monkeypatch.setenv("SPCT_REDIS_URL", URL)
    require_named_server(URL, folder)


def test_a_folder_of_somebody_else_names_no_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(ServerError, match="belongs to another user"):
        require_named_server(URL, folder)
