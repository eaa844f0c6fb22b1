"""Ray Serve: plain classes behind its HTTP proxy, in two apps, so that the back outlives what the front has under way.

A front has a method `drain`: it refuses further requests, and returns how many are under way.

proxy (one a node) ─▶ front ×n (an ASGI app each) ── handle ──▶ back ×n
"""

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from configs.load import ConfigError
from launch.cluster.failures import RunFailed

FRONT, BACK = "spct", "spct-back"  # the two apps
POLL_S = 0.5
CALL_S = 30.0  # for a process of the front to say how many requests it has
TRIES = 3  # to make a process, before the app has failed to start
HEALTH_S, HEALTH_LIMIT_S = 5.0, 60.0  # between two checks of a process, and how long one may take
# Of Ray Serve, in a Ray that this process starts, unless the user has set them.
SERVE_VARIABLES = {
    # It replaces a proxy that failed three checks, and every 10 s there is one: nobody could ask for half a minute.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    # A process's calls in the event loop of its own, and its log written in pieces: less processor time for each call. Nothing
    # of ours holds up an event loop, but for a judge while it opens. (With the router in that loop as well, which costs less
    # still, requests that are under way when a server ends are cut: Ray 2.60.)
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1000",
    "RAY_SERVE_LOG_TO_STDERR": "0",
}


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """A plain class, and how many processes of it there are."""

    name: str
    """Its name."""
    cls: type
    """The class; it is made in each process."""
    arguments: Mapping[str, Any]
    """Of the class."""
    count: int
    """Processes, >= 1."""
    at_a_time: int
    """Calls that one process works on; more wait."""
    gpus: int = 0
    """GPUs of each process."""
    drain_s: float = 20.0
    """How long one that is to end goes on with what it works on, in seconds."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of each process beyond what it inherits."""


def start_app(
    front: Deployment, back: Deployment, *, host: str, port: int, start_s: float, note: Callable[[str], None]
) -> None:
    """Starts both on the Ray that is joined, and waits until they answer. `front` gets the handle of `back` as `judges`.

    Raises:
        RunFailed: A process failed to start; with its own error.
        TimeoutError: It did not answer within `start_s`.
    """
    from ray import serve
    from ray.serve.config import HTTPOptions

    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # what it does is said in our words
    began = time.monotonic()
    serve.start(
        proxy_location="HeadOnly" if host.startswith("127.") else "EveryNode", http_options=HTTPOptions(host=host, port=port)
    )
    note(f"proxy      on {host}:{port} after {time.monotonic() - began:.0f} s")
    target = serve.RunTarget(application(back), name=BACK, route_prefix=None)
    (judges,) = serve.run_many([target], wait_for_applications_running=False)
    target = serve.RunTarget(application(front, judges=judges), name=FRONT, route_prefix="/")
    serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)
    while waiting := [each for each in _statuses() if each is None or each.status != "RUNNING"]:
        for status in waiting:
            if status is not None and status.status == "DEPLOY_FAILED":
                raise RunFailed(f"the server did not start: {_why(status)}")
        if time.monotonic() - began > start_s:
            told = "; ".join(_why(status) for status in waiting if status is not None)
            raise TimeoutError(f"the server was not ready after {start_s:.0f} s (waits.start_s): {told}")
        time.sleep(POLL_S)


def set_serve_variables() -> None:
    """Lets a Ray that this process starts have what Ray Serve needs here; to be called before Ray is started."""
    for name, value in SERVE_VARIABLES.items():
        os.environ.setdefault(name, value)


def application(part: Deployment, **more: Any) -> Any:
    """Returns an app of one deployment, not started. `more` are arguments of its class beside its own."""
    from ray import serve

    cls: Any = serve.ingress()(part.cls) if hasattr(part.cls, "__serve_build_asgi_app__") else part.cls
    return _deployed(part, cls).bind(**part.arguments, **more)


def app_health() -> str:
    """Returns what is wrong with the app; "" when all of it runs."""
    told = ["it was deleted" if each is None else "" if each.status == "RUNNING" else _why(each) for each in _statuses()]
    return "; ".join(filter(None, told))


def drain_app(*, limit_s: float, meanwhile: Callable[[], object]) -> bool:
    """Takes no more requests, and waits until those under way are answered; then the front ends, and the back behind it.

    Args:
        limit_s: For all of it, in seconds.
        meanwhile: Called every half second.

    Returns:
        Whether all ended in time.
    """
    from ray import serve

    ends, front = time.monotonic() + limit_s, serve.get_app_handle(FRONT)
    while any(_answered(front.broadcast("drain"))) and time.monotonic() < ends:
        meanwhile()
        time.sleep(POLL_S)
    for app in (FRONT, BACK):
        serve.delete(app, _blocking=False)
        while app in serve.status().applications:
            if time.monotonic() > ends:
                return False
            meanwhile()
            time.sleep(POLL_S)
    return True


def _answered(calls: Any) -> list[int]:
    """Returns what the processes that live say: how many requests each of them has under way."""
    return [each for each in calls.results(timeout_s=CALL_S, return_exceptions=True) if isinstance(each, int)]


def stop_app(*, own_ray: bool) -> None:
    """Ends what is left of the app at once. Ray Serve itself ends, too, where it has no other app.

    Args:
        own_ray: Whether Ray ends behind it. Nobody needs to hear of it then that Ray Serve's controller, which is asked to end
            itself, could not answer: Ray would print that, with an advice about retries.
    """
    import ray
    from ray import serve
    from ray.serve.exceptions import RayServeException

    with suppress(RayServeException):  # it was not started
        for app in (FRONT, BACK):
            serve.delete(app, _blocking=False)
    if not set(serve.status().applications) - {FRONT, BACK}:
        if own_ray:  # private: what `ray.shutdown` does a moment later
            worker = ray._private.worker.global_worker
            worker.threads_stopped.set()
            worker.gcs_error_subscriber.close()
        serve.shutdown()


def _statuses() -> list[Any]:
    from ray import serve

    found = serve.status().applications
    return [found.get(app) for app in (FRONT, BACK)]


def _deployed(part: Deployment, cls: Any) -> Any:
    from ray import serve

    runtime_env = {"env_vars": dict(part.variables)} if part.variables else {}
    return serve.deployment(
        cls,
        name=part.name,
        num_replicas=part.count,
        max_ongoing_requests=part.at_a_time,
        ray_actor_options={"num_cpus": 0, "num_gpus": part.gpus, "runtime_env": runtime_env},
        health_check_period_s=HEALTH_S,
        health_check_timeout_s=HEALTH_LIMIT_S,
        max_constructor_retry_count=TRIES,
        graceful_shutdown_timeout_s=part.drain_s,
        graceful_shutdown_wait_loop_s=0.2,
    )


def _why(status: Any) -> str:
    told = [f"{name}: {each.message}" for name, each in status.deployments.items() if each.message]
    return "; ".join(told) or status.message or str(status.status)


def require_free(host: str, port: int) -> None:
    """ConfigError when the port is taken."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(f"--port {port}: it is taken or not allowed ({error.strerror}); give another one") from None
