"""A request whose caller is gone is worked on no longer, whoever tells."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import Message, Receive, Scope, Send

from launch.serving.hang_ups import Gone, answer_unless_gone


class Waiting:
    """An app that answers when the test says so."""

    def __init__(self) -> None:
        self.began, self.go, self.after = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.ended = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = (await receive())["body"]
            self.began.set()
            await self.go.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": body})
            await self.after.wait()
            self.ended = "returned"
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise


async def dead_proxy() -> Message:
    raise RuntimeError("The actor died")


async def disconnect() -> Message:
    return {"type": "http.disconnect"}


async def nothing() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


Asked = Callable[[Receive], Awaitable[None]]


def run(scenario: Callable[[Waiting, Asked, list[Message]], Awaitable[None]]) -> Waiting:
    """Runs a scenario, which asks the app with a `receive` of its own and sees what was sent."""

    async def within() -> Waiting:
        app, sent = Waiting(), list[Message]()

        async def send(message: Message) -> None:
            sent.append(message)

        await asyncio.wait_for(scenario(app, lambda receive: answer_unless_gone(app, {}, b"body", receive, send), sent), 20)
        return app

    return asyncio.run(within())


@pytest.mark.parametrize("told", [dead_proxy, disconnect])
def test_work_ends_when_the_caller_or_its_proxy_is_gone(told: Receive) -> None:
    async def scenario(app: Waiting, ask: Asked, sent: list[Message]) -> None:
        async def later() -> Message:
            await app.began.wait()
            return await told()

        with pytest.raises(Gone):
            await ask(later)
        assert sent == []

    assert run(scenario).ended == "cancelled"


def test_a_disconnect_behind_the_answer_cuts_nothing() -> None:
    async def scenario(app: Waiting, ask: Asked, sent: list[Message]) -> None:
        async def later() -> Message:
            while len(sent) < 2:
                await asyncio.sleep(0)
            asyncio.get_running_loop().call_later(0.05, app.after.set)
            return await disconnect()

        app.go.set()
        await ask(later)
        assert sent[1]["body"] == b"body"

    assert run(scenario).ended == "returned"


def test_a_request_that_is_cancelled_has_ended_its_work() -> None:
    async def scenario(app: Waiting, ask: Asked, sent: list[Message]) -> None:
        task = asyncio.ensure_future(ask(nothing))
        await app.began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert app.ended == "cancelled"

    run(scenario)


def test_an_error_of_the_app_is_raised() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("a fault")

    async def send(message: Message) -> None:
        raise AssertionError

    with pytest.raises(ValueError, match="a fault"):
        asyncio.run(answer_unless_gone(broken, {}, b"", nothing, send))
