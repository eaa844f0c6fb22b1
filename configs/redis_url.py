"""The address of a Redis server as a URL: read once, strictly, so that no two readers disagree on where the password ends.

    redis://user:password@host:port/db?ssl_ca_certs=FILE        rediss:// is the same over TLS
    unix://user:password@/path/of/the/socket?db=0

What could be read in two ways is refused. No error quotes the URL or a part of it that may belong to the password.
"""

import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qsl, quote, unquote

SCHEMES = ("redis", "rediss", "unix")
PASSWORD_VARIABLE = "SPCT_REDIS_PASSWORD"
MASKED = "***"
OPTIONS = frozenset(
    {"db", "ssl_ca_certs", "ssl_ca_path", "ssl_ca_data", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"}
)
"""What may stand behind the `?`: redis-py knows more, but timeouts are ours, and a password there would be written down."""
_WHOLE = re.compile(
    r"(?P<scheme>[a-z]+)://(?:(?P<user>[^@:]*)(?::(?P<password>[^@]*))?@)?(?P<place>[^@?]*)(?:\?(?P<query>.*))?"
)
_HOST = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>\d{1,5}))?(?:/(?P<db>\d{0,9}))?")
_WRITE = "write / as %2F, ? as %3F, # as %23, @ as %40, [ as %5B, ] as %5D, % as %25"


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisUrl:
    """The parts of the URL, unquoted but for `options`."""

    scheme: str
    """`redis`, `rediss` or `unix`."""
    user: str
    """"" for the server's default user."""
    password: str
    """"" for none."""
    host: str
    """Name or address of the server; "" for `unix`."""
    port: int
    """1..65535; 0 for `unix`."""
    place: str
    """Host, port and database, or the path of the socket, as they stand in the URL."""
    options: str
    """What stands behind the `?`, "" for nothing."""

    def __repr__(self) -> str:
        return f"RedisUrl({self.public()!r})"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Returns the parts of a URL.

        Raises:
            ValueError: It is none, or a part of it is ambiguous; the message does not quote it.
        """
        if not text.startswith(tuple(f"{scheme}://" for scheme in SCHEMES)):
            raise ValueError("expected redis://, rediss:// or unix:// in front")
        if not text.isprintable() or " " in text:
            raise ValueError("a blank or a control character in it: write it as %20 and so on")
        whole = _WHOLE.fullmatch(text)
        credentials = [whole[name] or "" for name in ("user", "password")] if whole else []
        if whole is None or "#" in text or any(_ambiguous(part) for part in credentials):
            raise ValueError(
                f"its user or password holds a character that ends them in a URL: {_WRITE}, or put the password in"
                f" {PASSWORD_VARIABLE} as it is"
            )
        for name, _ in parse_qsl(whole["query"] or "", keep_blank_values=True):
            if name not in OPTIONS:
                raise ValueError(
                    f"behind the `?` only {', '.join(sorted(OPTIONS))} are known; a password there would be written down:"
                    f" put it in {PASSWORD_VARIABLE}"
                )
        user, password = map(unquote, credentials)
        host, port = _place(whole["scheme"], whole["place"])
        return cls(
            scheme=whole["scheme"],
            user=user,
            password=password,
            host=host,
            port=port,
            place=whole["place"],
            options=whole["query"] or "",
        )

    def text(self, *, user: str, password: str) -> str:
        """Returns the URL with these credentials, which are quoted for it ("" for none)."""
        secret = password if password == MASKED else quote(password, safe="")
        credentials = quote(user, safe="") + (f":{secret}" if secret else "")
        options = f"?{self.options}" if self.options else ""
        return f"{self.scheme}://{credentials}{'@' if credentials else ''}{self.place}{options}"

    def masked(self) -> str:
        """Returns the URL with a mask in place of its password, if it has one."""
        return self.text(user=self.user, password=MASKED if self.password else "")

    def public(self) -> str:
        """Returns the URL without user, password and options, for logs and errors."""
        return f"{self.scheme}://{self.place}"

    def server(self) -> tuple[str, int, str]:
        """Returns what tells one server from another: host and port, or the path of the socket."""
        return self.host.lower(), self.port, "" if self.host else unquote(self.place)


def _ambiguous(part: str) -> bool:
    """Whether a user or password holds a reserved character, or a `%` that quotes nothing."""
    return bool(re.search(r"[/?#@\[\]]|%(?![0-9A-Fa-f]{2})", part))


def _place(scheme: str, place: str) -> tuple[str, int]:
    """Returns host and port, which are "" and 0 for a socket."""
    if scheme == "unix":
        if not place.startswith("/"):
            raise ValueError("expected the absolute path of a socket: unix:///run/redis.sock")
        return "", 0
    found = _HOST.fullmatch(place)
    port = int(found["port"] or 6379) if found else 0
    if found is None or not 0 < port < 1 << 16:
        raise ValueError(
            "expected HOST, HOST:PORT or HOST:PORT/DATABASE behind the scheme and the password; if that holds one of"
            f" / ? # @ [ ] %: {_WRITE}"
        )
    return found["host"].strip("[]"), port
