"""Signals by what the run is doing; they are sent to this process."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from launch.setup.signals import HELD_OFF, SIGNALS, StopRequest, held_off


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_is_noted_and_the_second_ends_it(number: signal.Signals) -> None:
    before, stop = signal.getsignal(number), StopRequest()
    with stop.awaited():
        assert not stop.asked
        os.kill(os.getpid(), number)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_while_the_end_is_written_a_few_are_ignored() -> None:
    said: list[int] = []
    with held_off(lambda: said.append(1)):
        for _ in range(HELD_OFF):
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert len(said) == HELD_OFF


def test_outside_the_main_thread_there_are_none_to_handle() -> None:
    """As in the tests that drive a training beside a script."""

    def waits() -> bool:
        with StopRequest().awaited(), held_off(lambda: None):
            return True

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(waits).result(timeout=60)
