"""Ends the work on a request whose caller is gone, however it went.

Ray Serve cancels a request whose caller hung up. Where its proxy died, with all the connections that it held, it cancels none:
work would go on for nobody, and the same response, sent again without a place, would count as another member of its group. Of
both ASGI's `receive` tells: the one as `http.disconnect`, the other as an error.
"""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Gone(Exception):
    """Who asked went away before there was an answer."""


async def answer_unless_gone(app: ASGIApp, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
    """Lets an app answer a request. Gone where its caller goes away meanwhile: the app is cancelled then.

    Args:
        app: The app.
        scope: Of the request.
        body: Its body, whole.
        receive: Of which the body has been read.
        send: Takes the answer.
    """
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    answered = False

    async def heard() -> Message:
        if first:
            return first.pop()
        await asyncio.wait({going})
        return {"type": "http.disconnect"}

    async def told(message: Message) -> None:
        nonlocal answered
        answered |= message["type"] == "http.response.body" and not message.get("more_body")
        await send(message)

    going = asyncio.ensure_future(receive())
    work = asyncio.ensure_future(app(scope, heard, told))
    try:
        await asyncio.wait({going, work}, return_when=asyncio.FIRST_COMPLETED)
        if not (answered or work.done()):
            raise Gone
        await work
    finally:
        for task in (going, work):
            task.cancel()
        await asyncio.gather(going, work, return_exceptions=True)
