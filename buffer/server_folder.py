"""The folder of an embedded server: one server at a time uses it, and other processes of the user find the server by it.

server.lock      held by the server for as long as it lives
server.log       what the server prints
redis.sock       the server's socket, or a link to it where the folder's path is too long for a socket
access           the driver's URL, while the server runs; readable by the user alone
appendonlydir/   the server's data
"""

import errno
import fcntl
import json
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from buffer.connection import ServerError
from buffer.json_text import read_object
from configs.redis_url import RedisUrl

ACCESS = "access"
LONGEST_SOCKET = 107  # bytes in the path of a unix socket on Linux
LOCK_S = 10.0  # a server whose run was killed needs a moment to end


def driver_url(folder: Path) -> str:
    """Return the driver's URL, password included, of the server that runs in `folder`.

    Raises:
        ServerError: No server runs there, or the file cannot be read.
    """
    path = folder / ACCESS
    try:
        url = read_object(path)["url"]
        parts = RedisUrl.parse(url)
        if not parts.password or parts.host not in ("", "127.0.0.1"):  # else the environment's password would be sent there
            raise ValueError("it names a server that no run has started here")
    except FileNotFoundError:
        raise ServerError(f"no server runs in {folder}: is the run going on, and is this its server's folder?") from None
    except PermissionError:
        raise ServerError(f"{path} cannot be read: the run is another user's") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ServerError(f"{path} does not contain the server's URL ({error}): stop the run and start it again") from None
    return str(url)


class ServerFolder:
    """The files of one server.

    Args:
        path: The folder.
        sockets: As of `EmbeddedServer`.

    Attributes:
        path: The folder.
        log: The server's log.
        socket: Where the server's socket is; it changes in `place_socket`.
    """

    def __init__(self, path: Path, sockets: Path | None = None) -> None:
        self.path, self._sockets = path.absolute(), sockets
        self.log = self.path / "server.log"
        self.socket = self._link = self.path / "redis.sock"

    def lock(self) -> int:
        """Return a descriptor that holds the folder's lock, for the server to inherit: two servers would ruin the data.

        Raises:
            ServerError: Another server still holds it after LOCK_S.
        """
        lock = os.open(self.path / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + LOCK_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return lock
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES) or time.monotonic() > deadline:
                    os.close(lock)
                    raise ServerError(f"{self.path} is in use by another run's server: choose another folder") from None
                time.sleep(0.05)

    def write_access(self, url: str) -> None:
        """Write the driver's URL: in one step, and readable by the user alone from its first byte on."""
        new = self.path / f"{ACCESS}.new"
        new.unlink(missing_ok=True)
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump({"url": url}, file)
        new.replace(self.path / ACCESS)

    def remove_access(self) -> None:
        """Remove the URL, as the server has ended."""
        (self.path / ACCESS).unlink(missing_ok=True)

    def place_socket(self) -> None:
        """Choose the socket's path: in the folder or, if that is too long, in a short one with a link in the folder.

        Raises:
            ServerError: The other path is too long as well.
        """
        if len(os.fsencode(self.socket)) <= LONGEST_SOCKET:
            return
        short = Path(tempfile.mkdtemp(prefix="spct-", dir=self._sockets)) / self._link.name
        if len(os.fsencode(short)) > LONGEST_SOCKET:
            short.parent.rmdir()
            raise ServerError(
                f"{short} is too long for a socket ({LONGEST_SOCKET} bytes at most): set TMPDIR to a shorter path"
            )
        self.socket = short
        self._link.unlink(missing_ok=True)
        self._link.symlink_to(self.socket)

    def remove_socket(self) -> None:
        """Remove the socket, and its link and short folder if there are any."""
        self.socket.unlink(missing_ok=True)
        if self.socket != self._link:
            self._link.unlink(missing_ok=True)
            self.socket.parent.rmdir()
            self.socket = self._link

    def sync(self) -> None:
        """Flush to the disk what the server has written."""
        for file in (self.path / "appendonlydir").glob("*.aof"):
            with suppress(FileNotFoundError):  # the server has rewritten it meanwhile
                descriptor = os.open(file, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)

    def log_tail(self, size: int = 2000) -> str:
        """Return the last `size` bytes of the log."""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - size))
            return log.read().decode(errors="replace")
