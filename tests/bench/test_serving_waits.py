"""The waits of the serving bench end, and say who waited for what."""

import asyncio
from functools import partial

import pytest

from tests.bench import serving
from tests.bench.side_by_side import Contender


def test_callers_of_a_server_that_never_answers() -> None:
    async def run() -> None:
        silent = await asyncio.start_server(lambda reader, writer: asyncio.sleep(60), "127.0.0.1", 0)
        url = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        try:
            await serving.ask(url, serving.questions(1, 3), 2, limit_s=0.3)
        finally:
            silent.close()

    with pytest.raises(TimeoutError, match=r"2 callers waited 0.3 s for the server at http://\S+: 0 of 3 verdicts"):
        asyncio.run(run())


def powers(base: int) -> "partial[int]":
    return partial(pow, base)


def test_a_contender_is_told_what_to_measure() -> None:
    with Contender("powers", partial(powers, 2)) as contender:
        assert [contender(3), contender(5)] == [8, 32]
