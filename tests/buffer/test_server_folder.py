"""A server's folder: one server at a time, found by the user's other processes, whatever its path."""

import tempfile
from pathlib import Path

import pytest

from buffer import server, server_folder
from buffer.server import EmbeddedServer
from buffer.streams import Address, ServerError, connect


def test_other_processes_of_the_user_find_the_server_while_it_runs(folder: Path) -> None:
    (folder / "sub").mkdir(parents=True)
    (folder / "access").write_text("left behind by a run that was killed, for all to read")
    with EmbeddedServer(folder) as running:
        assert server.driver_url(folder) == running.url
        assert (folder / "access").stat().st_mode & 0o777 == 0o600
        connect(Address(server.driver_url(folder), "r")).close()
        with pytest.raises(ServerError, match=r"no server runs in .*sub"):
            server.driver_url(folder / "sub")
    with pytest.raises(ServerError, match="no server runs in"):
        server.driver_url(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", "7", "\udcff"])
def test_a_damaged_access_file_is_named(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "access").write_text(text, errors="surrogateescape")
    with pytest.raises(ServerError, match="access does not contain the server"):
        server.driver_url(folder)


def test_a_long_folder_gets_a_short_socket_and_a_link_to_it(folder: Path) -> None:
    deep = folder / ("very-long-name-" * 8)
    running = EmbeddedServer(deep)
    with running:
        link = deep / "redis.sock"
        assert link.is_symlink()
        target = link.readlink()
        assert target.is_socket()
        assert len(str(target)) <= server_folder.LONGEST_SOCKET
        connect(Address(running.url, "r")).close()
    assert not link.is_symlink()
    assert not target.parent.exists()
    with running:
        connect(Address(running.url, "r")).close()


def test_where_tmpdir_is_long_as_well_the_socket_goes_to_the_given_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("batch-system-" * 8)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    deep = folder / ("very-long-name-" * 8)
    with pytest.raises(ServerError, match=r"too long for a socket \(107 bytes at most\): set TMPDIR to a shorter path"):
        EmbeddedServer(deep).start()
    assert list(long.iterdir()) == []
    with EmbeddedServer(deep, sockets=folder) as running:
        assert (deep / "redis.sock").readlink().parent.parent == folder
        connect(Address(running.url, "r")).close()


def test_a_folder_whose_name_needs_quoting(folder: Path) -> None:
    with EmbeddedServer(folder / 'a "b" %41 é') as running:
        connect(Address(running.url, "r")).close()


@pytest.mark.parametrize("name", ["short", "very-long-name-" * 8])
def test_two_servers_never_share_a_folder(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedServer(folder / name) as running:
        second = EmbeddedServer(folder / name)
        with monkeypatch.context() as hasty:
            hasty.setattr(server_folder, "LOCK_S", 0.2)
            with pytest.raises(ServerError, match="in use by another run's server: choose another folder"):
                second.start()
        second.stop()
        assert server.driver_url(folder / name) == running.url
        connect(Address(running.url, "r")).close()
        assert (folder / name / "redis.sock").is_socket()
    assert not running.running
