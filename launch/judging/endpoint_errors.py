"""What goes wrong with an endpoint, in words that name it, quote it safely and say what to do; and of which kind it is.

HTTP status, or an error inside HTTP 200 ─▶ RequestRefused   this request: 400, 413, 422, a content filter
                                            MayPass          later: 408, 409, 425, 429, 5xx, no connection, no answer in time
                                            EndpointGone     every request: key, money, model, address, path (404, 501)
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launch.judging.protocol import JudgeGone, NotJudged
from launch.monitoring.plain_text import clean

QUOTED = 300  # characters of the server's own text in an error
_REFUSED = (400, 413, 422)
_PASSING = (408, 409, 425, 429)
_NO_MONEY = ("insufficient_quota", "billing_hard_limit_reached", "insufficient_balance")  # codes of a 429 that no wait mends


class EndpointError(NotJudged):
    """The message names endpoint, model and request, quotes the server, and says what to do."""


class RequestRefused(EndpointError):
    """The server understood this request and refuses it; another one it may answer."""

    def __init__(self, message: str, *, said: "Said") -> None:
        super().__init__(message)
        self.said = said


class MayPass(EndpointError):
    """The same request may be answered later."""

    def __init__(self, message: str, *, wait_s: float | None = None, quota: bool = False) -> None:
        """`wait_s`: what the server asks to wait, None where it does not say. `quota`: too much was asked in a time."""
        super().__init__(message)
        self.wait_s, self.quota = wait_s, quota


class EndpointGone(EndpointError, JudgeGone):
    """Every other request would end so, too."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        """`status`: the HTTP status; None where another reason stands behind it."""
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """What a server says about a request that it does not answer."""

    text: str
    """In its own words."""
    param: str = ""
    """The field that it objects to, where it names one."""
    code: str = ""
    """Its code: a word, or an HTTP status inside an answer of status 200."""


def said(body: bytes) -> Said:
    """Return what an error's body says: `{"error": {"message", "param", "code"}}`, `{"error": "..."}`, `{"message"}`,
    `{"detail": "..." or [{"loc", "msg"}]}`, or plain text."""
    text = body.decode("utf-8", "replace").removeprefix("\ufeff").strip()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return Said(text=text)
    if isinstance(value, list) and value:  # Google's
        value = value[0]
    if not isinstance(value, dict):
        return Said(text=text)
    error = value.get("error", value)
    if isinstance(error, str):
        return Said(text=error)
    return _object(error, text) if isinstance(error, Mapping) else Said(text=text)


def _object(error: Mapping[str, Any], whole: str) -> Said:
    message, detail = error.get("message"), error.get("detail")
    if isinstance(detail, list) and detail and isinstance(detail[0], dict):  # pydantic's, behind FastAPI
        place = [str(part) for part in detail[0].get("loc") or () if part != "body"]
        return Said(text=f"{'.'.join(place)}: {detail[0].get('msg', '')}", param=place[0] if place else "")
    words = next((each for each in (message, detail) if isinstance(each, str) and each), whole)
    param, code = error.get("param"), error.get("code")
    return Said(
        text=words,
        param=param if isinstance(param, str) else "",
        code=str(code) if isinstance(code, str | int) and not isinstance(code, bool) else "",
    )


@dataclass(frozen=True, slots=True)
class ErrorTexts:
    """Makes the errors of one endpoint. The key stands in none of them."""

    url: str
    """Its address."""
    model: str
    """Name of the model."""
    key: str
    """What is removed from every text."""

    def error(self, tried: str, happened: str, remedy: str) -> EndpointError:
        """Return an error of no kind in particular."""
        return EndpointError(self.text(tried, happened, remedy))

    def text(self, tried: str, happened: str, remedy: str) -> str:
        """Return the one line of an error."""
        return self.safe(f"{self.url}, model {self.model}: {tried}: {happened}; {remedy}")

    def status(self, tried: str, status: int, words: Said, *, wait_s: float | None = None) -> EndpointError:
        """Return the error of an HTTP status."""
        text = self.text(tried, f"HTTP {status}: {self.quote(words.text) or '(no text)'}", self._remedy(status, words))
        if status in _REFUSED or (status == 403 and "moderat" in words.text.lower()):
            return RequestRefused(text, said=words)
        if words.code in _NO_MONEY:
            return EndpointGone(text)
        if status in _PASSING or (status >= 500 and status != 501):
            return MayPass(text, wait_s=wait_s, quota=status == 429)
        return EndpointGone(text, status=status)

    def late(self, tried: str, timeout_s: float) -> EndpointError:
        """Return the error of a server that did not answer in time."""
        remedy = "see whether it is overloaded; lower --concurrency or raise --timeout-s"
        return MayPass(self.text(tried, f"no answer within {timeout_s:g} s (--timeout-s)", remedy))

    def unreached(self, tried: str, error: BaseException) -> EndpointError:
        """Return the error of a server that cannot be reached, or that hung up."""
        words = self.quote(str(_innermost(error)))
        return MayPass(self.text(tried, f"no connection: {words}", "start the server, or correct the address"))

    def quote(self, words: str) -> str:
        """Return the beginning of the server's text; made safe before the cut, which could leave half of a key."""
        words = self.safe(words)
        return words if len(words) <= QUOTED else words[:QUOTED] + "…"

    def safe(self, text: str) -> str:
        """Return one line without control characters, secrets of the environment, a password in a URL, or the key."""
        text = clean(text)
        return text.replace(self.key, "***") if self.key else text

    def _remedy(self, status: int, words: Said) -> str:
        if status in (401, 403):
            return "set OPENAI_API_KEY to a key that this server accepts"
        if status == 402 or words.code in _NO_MONEY:
            return "pay for more, or use another key or model"
        if status in (404, 405) and not self.url.endswith("/v1"):
            return f"the address does not end in /v1: try {self.url}/v1"
        if status in (404, 405):
            return "correct the address or the model"
        if status == 429:
            return "lower --concurrency, or set --requests-per-minute and --tokens-per-minute to your quota"
        if status >= 500:
            return "look into the server's log, then run again"
        return "change what the server objects to (a prompt and its answer must fit the model's context)"


def _innermost(error: BaseException) -> BaseException:
    """Return the system's own error, below the layers that wrapped it."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    return error
