"""Workers join and drain while a run goes on, under the real driver with fake engines: nothing is lost.

What the throughput does is measured by tests/chaos/elastic.py (make chaos), not here: a test has no say over the machine.
"""

import pytest

from tests.chaos.elastic import run

pytestmark = pytest.mark.chaos


def test_workers_come_and_go_and_nothing_is_lost() -> None:
    rates = run([1, 3, 1], seconds=1.0)
    assert [workers for workers, _ in rates] == [1, 3, 1]
    assert all(rate > 0 for _, rate in rates)
