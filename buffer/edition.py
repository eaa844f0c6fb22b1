"""The newest published edition of the policy's weights: learners announce it, rollout actors read it.

    learner ── announce_edition ──▶ key `weights` = "incarnation.version" ──▶ announced_edition ── rollout actors, driver

Only the number is here; the weights themselves travel by another way (`buffer.weights.WeightSource`). A read costs one
`GET`, so that every worker can look many times a second.
"""

import redis

from buffer.connection import Namespace
from buffer.weights import NONE, Edition

WEIGHTS = "weights"


def announce_edition(client: redis.Redis, run_id: str, edition: Edition) -> bool:
    """Announce an edition whose weights can be pulled now. An older edition changes nothing.

    Returns:
        Whether this edition is now the announced one; False when a newer one was announced before.

    Raises:
        ValueError: The edition is `NONE` or has a negative number.
    """
    if min(edition) < 0:
        raise ValueError(f"edition {edition.incarnation}.{edition.version}: expected two numbers >= 0")
    return bool(Namespace(client, run_id).run("announce", [WEIGHTS], edition.incarnation, edition.version))


def announced_edition(client: redis.Redis, run_id: str) -> Edition:
    """Return the newest announced edition, `NONE` before the first."""
    space = Namespace(client, run_id)
    value = space.command("GET", space.key(WEIGHTS))
    if value is None:
        return NONE
    incarnation, _, version = value.decode().partition(".")
    return Edition(int(incarnation), int(version))
