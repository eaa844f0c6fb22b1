"""The deployments of the server in Ray Serve's local mode, which starts no Ray: they are made, and the front reaches the back.

A whole server: tests/launch/serving/test_whole_server.py.
"""

import socket
from typing import Any

import pytest
from fastapi import FastAPI

from configs.load import ConfigError
from launch.cluster.served_app import Deployment, application, require_free


class Back:
    def __init__(self, settings: str) -> None:
        self._settings = settings

    async def judge(self, cohort: str) -> str:
        return f"{self._settings}: {cohort}"


class Front:
    def __init__(self, settings: str, judges: Any) -> None:
        self._settings, self._judges = settings, judges

    def __serve_build_asgi_app__(self) -> Any:
        return FastAPI()

    async def ask(self, cohort: str) -> Any:
        return self._settings, await self._judges.judge.remote(cohort)


def test_the_front_asks_the_back_through_its_handle() -> None:
    import ray
    from ray import serve

    how = {"arguments": {"settings": "own"}, "at_a_time": 8}
    back = application(Deployment(name="judge", cls=Back, count=1, **how))
    front = application(Deployment(name="http", cls=Front, count=2, **how), judges=back)
    handle = serve.run(front, name="local", _local_testing_mode=True)
    assert handle.ask.remote("c").result(timeout_s=60) == ("own", "own: c")
    assert not ray.is_initialized()


def test_a_port_that_is_taken_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match=r"--port \d+: it is taken"):
            require_free("127.0.0.1", taken.getsockname()[1])
