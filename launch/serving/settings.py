"""How a reward server was started: what every process of it knows."""

from dataclasses import dataclass

from launch.serving.protocol import Calibration


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerSettings:
    """Defaults of requests, and the limits on them."""

    model: str
    """Name of the judge, as answers name it."""
    version: int = 0
    """Policy version of the weights that it was started with; 0 where they have none."""
    votes: int = 8
    """k where a request names none."""
    meta: bool = False
    """Whether there is a meta-RM, which then chooses the votes where a request says nothing."""
    size: int = 1
    """Members of a cohort where a request names no size."""
    collect_s: float = 30.0
    """How long a cohort waits for its members, in seconds."""
    deadline_s: float = 110.0
    """In which a request is answered: below the 120 s after which the most hurried of common trainers gives up."""
    most_votes: int = 64
    """k at most."""
    most_responses: int = 64
    """Responses beside each other at most."""
    most_bytes: int = 4 << 20
    """Body of a request at most."""
    most_requests: int = 1024
    """Requests that one HTTP worker holds at a time."""
    most_cohorts: int = 4096
    """Cohorts without a verdict, of the whole server."""
    rate: float = 0.0
    """Requests of one tenant in a second, at one HTTP worker; 0: any number."""
    keep_s: int = 3600
    """How long a verdict is kept, in seconds."""
    calibration: Calibration | None = None
    """How far vote shares are probabilities; None: nobody measured it."""
    log_texts: bool = False
    """Whether logs hold queries and responses."""
