"""Which Redis server the password of the environment is sent to: one that the user names, not one that only a file names."""

import os
import stat
from pathlib import Path

from buffer.connection import ServerError
from configs.redis_url import PASSWORD_VARIABLE, RedisUrl

URL_VARIABLE = "SPCT_REDIS_URL"  # names the server that the password is for


def require_named_server(url: str, folder: Path) -> None:
    """Check that the user, and not only a run folder, names the server that a run folder leads to.

    A run folder may be a stranger's, or come from one in an archive: then its server would be sent the password of the
    environment, and what that server holds would be believed. SPCT_REDIS_URL names the server for which the password is.

    Args:
        url: The `redis.url` of the config in the folder.
        folder: The run folder.

    Raises:
        ServerError: The environment has a password and does not name this server, or neither is the folder the user's own.
    """
    parts, named = RedisUrl.parse(url), os.environ.get(URL_VARIABLE)
    try:
        if named and RedisUrl.parse(named).server() == parts.server():
            return
    except ValueError as error:
        raise ServerError(f"{URL_VARIABLE}: {error}") from None
    remedy = f"if that server is yours, set {URL_VARIABLE}={parts.public()} as well"
    if os.environ.get(PASSWORD_VARIABLE) and not parts.password:
        raise ServerError(
            f"{folder} names the Redis server {parts.public()}, where {PASSWORD_VARIABLE} would be sent: {remedy}"
        )
    if problem := why_not_own(folder):
        raise ServerError(f"{problem}, and it names the Redis server {parts.public()}: {remedy}")


def why_not_own(folder: Path) -> str:
    """Returns why somebody else may have written the config of a run folder, "" where only the user can."""
    for path in (folder.resolve(), folder.resolve() / "config.yaml"):
        if problem := _not_own(path):
            return f"{path} {problem}"
    return ""


def _not_own(path: Path) -> str:
    state = path.lstat()
    if stat.S_ISLNK(state.st_mode):
        return "is a link"
    if state.st_uid != os.geteuid():
        return "belongs to another user"
    return "can be written by other users" if state.st_mode & 0o022 else ""
