"""The announced edition of the weights: it only rises, the learner alone moves it, and rollout actors read it."""

import random

import pytest
import redis

from buffer.edition import announce_edition, announced_edition
from buffer.server import EmbeddedServer
from buffer.streams import Address, ServerError, connect
from buffer.weights import NONE, Edition
from tests.buffer.run_by_hand import Run

NO_RIGHT = r"(?i)no permissions"


def test_before_the_first_there_is_none(client: redis.Redis, address: Address) -> None:
    assert announced_edition(client, address.run_id) == NONE


def test_a_newer_edition_replaces_an_older_one(run: Run) -> None:
    for edition in (Edition(0, 0), Edition(1, 0), Edition(1, 9), Edition(1, 10), Edition(2, 3), Edition(10, 0)):
        assert announce_edition(run.client, run.run_id, edition)
        assert announced_edition(run.client, run.run_id) == edition


@pytest.mark.parametrize("older", [Edition(2, 2), Edition(1, 9), Edition(1, 99), Edition(0, 3)])
def test_an_older_edition_is_ignored(run: Run, older: Edition) -> None:
    """A learner that went back to its checkpoint announces an older version in a newer incarnation: 2.3 is newer than 1.9."""
    assert announce_edition(run.client, run.run_id, Edition(2, 3))
    assert not announce_edition(run.client, run.run_id, older)
    assert announced_edition(run.client, run.run_id) == Edition(2, 3)


def test_in_any_order_the_newest_stays(steady_run: Run) -> None:
    editions = [Edition(incarnation, version) for incarnation in (1, 2, 10) for version in (0, 2, 10)]
    random.Random(0).shuffle(editions)
    announced = [announce_edition(steady_run.client, steady_run.run_id, edition) for edition in editions]
    assert announced == [edition == max(editions[: i + 1]) for i, edition in enumerate(editions)]
    assert announced_edition(steady_run.client, steady_run.run_id) == Edition(10, 10)


@pytest.mark.parametrize("edition", [NONE, Edition(-1, 3), Edition(1, -1)])
def test_no_edition_cannot_be_announced(client: redis.Redis, address: Address, edition: Edition) -> None:
    with pytest.raises(ValueError, match="expected two numbers >= 0"):
        announce_edition(client, address.run_id, edition)
    assert announced_edition(client, address.run_id) == NONE


def test_the_learner_announces_and_rollout_actors_read(server: EmbeddedServer, client: redis.Redis, address: Address) -> None:
    with (
        connect(Address(server.url_for("learner"), address.run_id)) as learner,
        connect(Address(server.url_for("rollout"), address.run_id)) as rollout,
    ):
        assert announce_edition(learner, address.run_id, Edition(1, 4))
        assert announced_edition(rollout, address.run_id) == announced_edition(client, address.run_id) == Edition(1, 4)
        with pytest.raises(ServerError, match=NO_RIGHT):
            announce_edition(rollout, address.run_id, Edition(9, 9))
        assert announced_edition(rollout, address.run_id) == Edition(1, 4)


@pytest.mark.parametrize("role", ["reward", "meta-rm"])
def test_others_neither_announce_nor_read(server: EmbeddedServer, address: Address, role: str) -> None:
    with connect(Address(server.url_for(role), address.run_id)) as other:  # type: ignore[arg-type]
        with pytest.raises(ServerError, match=NO_RIGHT):
            announced_edition(other, address.run_id)
        with pytest.raises(ServerError, match=NO_RIGHT):
            announce_edition(other, address.run_id, Edition(9, 9))
