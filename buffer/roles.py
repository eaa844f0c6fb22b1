"""Who may do what on the server that a run starts: an account per role, with the rights that its work needs and no more.

    driver     every key of a run; nothing that stops, empties, rewrites or searches the server
    rollout    claims `prompts`, adds to `rollouts`, reads which weights are the newest
    reward     claims `rollouts`, adds to `experience`
    learner    claims `experience`, keeps the accounts, announces its weights
    meta-rm    claims `experience`, counts what it skips

A right is some commands on some keys. The server checks every call, those inside a script too; beside that EVALSHA asks
for all rights on each key that a script is given, so these keys are a right of their own, with which nothing else can be
done. What no rule can tell apart are two consumer groups of one stream: the meta-RM could acknowledge for the learner.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, get_args

Role = Literal["driver", "rollout", "reward", "learner", "meta-rm"]
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True, slots=True)
class Right:
    """Commands (a subcommand as ``xinfo|groups``) on the keys of these names in any run, both separated by blanks; where
    there is no command, the keys may be given to a script that leaves them alone."""

    commands: str
    names: str


_EVERYBODY = "info ping time script|load client|setinfo"  # on no key
_CLAIM = "xreadgroup xread xclaim xpending xrange xinfo|groups xack"
_DRIVER = "~spct:* +@all -@admin -@dangerous -@scripting +eval +evalsha +script|load +info"


def _anybody(source: str) -> tuple[Right, ...]:
    """Claiming from a stream, the dead letters, and a heartbeat that only the driver reads."""
    return (
        Right(_CLAIM, source),
        Right("get set exists", "request:*"),
        Right("xadd", "dead"),
        Right("hincrby", "outcomes"),
        Right("hset hdel", "heartbeats"),
    )


def _worker(source: str, destination: str) -> tuple[Right, ...]:
    """One of many, of whom each takes over the claims of the dead and leaves when it likes."""
    return (
        *_anybody(source),
        Right("xautoclaim xdel xgroup|delconsumer", source),
        Right("xadd", destination),
        Right("zrem", "outstanding"),
    )


_RIGHTS: Mapping[Role, tuple[Right, ...]] = {
    "rollout": (*_worker("prompts", "rollouts"), Right("get", "weights")),
    "reward": _worker("rollouts", "experience"),
    "learner": (
        *_anybody("experience"),
        Right("xlen xtrim", "experience"),
        Right("get set", "version saved weights"),
        Right("zadd zrem zscore zrange", "outstanding unsaved"),
        Right("hmget", "outcomes"),
        Right("get incr", "incarnation"),
    ),
    "meta-rm": (
        *_anybody("experience"),
        Right("xlen", "experience"),
        Right("hmget", "outcomes"),
        Right("", "outstanding"),  # dead_letter.lua: what only the meta-RM cannot use stays outstanding
    ),
}


def account(role: Role, password: str) -> str:
    """The line of the server's configuration that makes the account; it holds the password's digest alone."""
    return f"user {role} on #{sha256(password.encode()).hexdigest()} {_rules(role)}"


def _rules(role: Role) -> str:
    if role == "driver":
        return _DRIVER
    rights = _RIGHTS[role]
    given = dict.fromkeys(name for right in rights for name in right.names.split())
    selectors = (_selector(right) for right in (*rights, Right("eval evalsha", " ".join(given))))
    return " ".join([*_allowed(_EVERYBODY), *selectors])


def _selector(right: Right) -> str:
    return "(" + " ".join([*_allowed(right.commands), *(f"~spct:{{*}}:{name}" for name in right.names.split())]) + ")"


def _allowed(commands: str) -> Iterable[str]:
    return (f"+{command}" for command in commands.split())
