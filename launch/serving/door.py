"""Before any route: who asks, how much at a time, and what the request is called in logs.

request ─▶ request id ─▶ key ─▶ room ─▶ rate ─▶ body, whole ─▶ route ─▶ answer, a log line, counts
                         401    429     429     413, 408        └─▶ an error of our own: 500, and where it was in the log
"""

import asyncio
import hmac
import json
import logging
import re
import secrets
import time
import traceback
from collections import Counter
from collections.abc import Mapping, MutableMapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from launch.serving import metrics
from launch.serving.errors import BadRequest, ServingError, TooLarge, TooMany, TooSlow, Unauthorised, Unjudged
from launch.serving.hang_ups import Gone, answer_unless_gone
from launch.serving.settings import ServerSettings

OPEN = ("/healthz", "/readyz", "/", "/docs", "/openapi.json")  # without a key: load balancers ask, and people look
READY = "/readyz"  # a load balancer asks it: no more requests for one that stops
METRICS = "/metrics"  # however many requests there are: it says so
ANYBODY = "anybody"  # the tenant where there are no keys
BODY_S = 60.0  # in which a body must come whole
SHARE = 0.75  # of the places of this HTTP worker that one of several tenants may take
GONE = 499  # in the log: who asked went away before there was an answer
READ_S = 1.0  # the file of keys is read again when it has changed, looked at this often
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
logger = logging.getLogger("spct.requests")


class Keys:
    """Bearer keys from a file: a line `TENANT KEY` each, `#` begins a comment. A changed file counts at once."""

    def __init__(self, file: Path | None) -> None:
        """Reads the file. None: whoever reaches the server may ask. ValueError when it cannot be used."""
        self._file, self._looked_at, self._stamp = file, 0.0, (0, 0)
        self._tenants: Mapping[bytes, str] = {}
        if file is not None:
            self._tenants, self._stamp = read_keys(file), _stamp(file)

    def tenant(self, authorization: str) -> str:
        """Returns whose key a request carries. Unauthorised where it carries none that is known."""
        if self._file is None:
            return ANYBODY
        self._refresh(self._file)
        scheme, _, key = authorization.partition(" ")
        given = sha256(key.strip().encode()).digest()
        if scheme.lower() == "bearer":
            for known, tenant in self._tenants.items():
                if hmac.compare_digest(known, given):
                    return tenant
        raise Unauthorised("give a key that this server knows: Authorization: Bearer KEY")

    @property
    def several(self) -> bool:
        """Whether there are several tenants."""
        return len(set(self._tenants.values())) > 1

    def _refresh(self, file: Path) -> None:
        now = time.monotonic()
        if now - self._looked_at < READ_S:
            return
        self._looked_at = now
        try:
            if (stamp := _stamp(file)) != self._stamp:
                self._tenants, self._stamp = read_keys(file), stamp
        except (OSError, ValueError) as error:  # half written, or removed: the keys that were read last count
            logger.warning("the keys are as before: %s", error)


def read_keys(file: Path) -> dict[bytes, str]:
    """Returns {sha256 of a key: tenant}. ValueError, which quotes no key, for a line that is none."""
    tenants: dict[bytes, str] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or not _REQUEST_ID.fullmatch(words[0]) or len(words[1]) < 16:
            raise ValueError(f"{file}:{number}: write TENANT KEY, a key of 16 characters or more")
        tenants[sha256(words[1].encode()).digest()] = words[0]
    if not tenants:
        raise ValueError(f"{file}: it holds no key; write TENANT KEY in a line")
    return tenants


def _stamp(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_mtime_ns, found.st_size


class Door:
    """ASGI middleware around the routes."""

    def __init__(self, app: ASGIApp, *, settings: ServerSettings, keys: Keys) -> None:
        """Takes the app behind it."""
        self._app, self._settings, self._keys = app, settings, keys
        self.draining = False
        """Whether requests are refused, but for those that are inside."""
        self._inside: Counter[str] = Counter()  # by tenant; "": whoever gave no key
        self._allowance: dict[str, tuple[float, float]] = {}  # by tenant: requests that may come now, as of when

    @property
    def inside(self) -> int:
        """Requests that wait for their answer."""
        return self._inside.total()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        state = scope.setdefault("state", {})
        state["request_id"], state["tenant"] = request_id, ""
        began, status = time.monotonic(), 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        tenant = ""
        metrics.INSIDE.inc()
        try:
            if self.draining and (scope["path"] not in OPEN or scope["path"] == READY):
                raise Unjudged("the server stops; ask again when it is back", final=False)
            if scope["path"] not in OPEN:
                tenant = state["tenant"] = self._keys.tenant(headers.get(b"authorization", b"").decode("latin-1"))
            self._inside[tenant] += 1
            try:
                if scope["path"] not in OPEN and scope["path"] != METRICS:
                    self._require_room(tenant)
                await answer_unless_gone(self._app, scope, await self._body(headers, receive, state), receive, answer)
            finally:
                self._inside[tenant] -= 1
        except ServingError as error:
            await refuse(error, answer)
        except Gone:
            status = GONE
        except Exception as error:  # a fault of ours, which was answered: its frames are logged, its message may quote a text
            frames = [f"{each.filename}:{each.lineno}" for each in traceback.extract_tb(error.__traceback__)]
            logger.error("", {"request": request_id, "error": type(error).__name__, "frames": frames})
        finally:
            metrics.INSIDE.dec()
            seconds = time.monotonic() - began
            route = getattr(scope.get("route"), "path", "none")
            metrics.REQUESTS.labels(route=route, status=str(status)).inc()
            metrics.SECONDS.labels(route=route).observe(seconds)
            told = {"request": request_id, "tenant": state["tenant"], "route": route, "status": status, "s": round(seconds, 3)}
            logger.info("%(route)s %(status)s", told | ({"body": state.get("body", "")} if self._settings.log_texts else {}))

    def _require_room(self, tenant: str) -> None:
        most, rate = self._settings.most_requests, self._settings.rate
        if self.inside > most:
            raise TooMany(f"this server answers {most} requests at a time; send it again later")
        if self._keys.several and self._inside[tenant] > max(1.0, SHARE * most):
            raise TooMany(f"one key has {SHARE:.0%} of the {most} places of this server at most; send it again later")
        if not rate:
            return
        now = time.monotonic()
        left, since = self._allowance.get(tenant, (max(1.0, rate), now))
        left = min(max(1.0, rate), left + (now - since) * rate)
        self._allowance[tenant] = (left - 1 if left >= 1 else left, now)
        if left < 1:
            raise TooMany(f"more than {rate:g} requests in a second; send it again later")

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive, state: MutableMapping[str, Any]) -> bytes:
        """Returns the whole body of a request, which is read here so that none is larger than it may be."""
        most, parts, size = self._settings.most_bytes, [], 0
        too_large = TooLarge(f"the body: more than {most} bytes; send less")
        length = headers.get(b"content-length", b"0")
        if not length.isdigit():
            raise BadRequest("Content-Length: give a number")
        if len(length) > 18 or int(length) > most:
            raise too_large
        try:
            async with asyncio.timeout(BODY_S):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise Gone
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > most:
                        raise too_large
                    if not message.get("more_body"):
                        break
        except TimeoutError:
            raise TooSlow(f"the body did not come whole within {BODY_S:.0f} s; send it again") from None
        body = b"".join(parts)
        if self._settings.log_texts:
            state["body"] = body.decode(errors="replace")
        return body


async def refuse(error: ServingError, send: Send) -> None:
    """Answers with the status and the message of an error."""
    body = json.dumps(error_body(error)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if isinstance(error, Unauthorised):
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def error_body(error: ServingError) -> dict[str, Any]:
    """Returns what a refusal says."""
    kind = re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()
    body = {"type": kind, "message": error.message, "field": error.field or None}
    return {"error": body | ({"final": error.final} if isinstance(error, Unjudged) else {})}
