"""How often what died is made again, and which errors are final, transient, or the same once more."""

import json
from typing import Any

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from buffer.streams import ServerError
from configs.load import ConfigError
from launch.cluster.failures import FINAL, ActorLost, FinalError, RunFailed, call_failed, details, sentence
from launch.cluster.tries import Tries
from learner.checkpoint import CheckpointError

STACK = """\
ray::GRPOLearner.step() (pid=4711, ip=127.0.0.1, actor_id=ab, repr=<learner.grpo.GRPOLearner object at 0x7f>)
  File "/home/someone/spct/learner/grpo.py", line 211, in step
    self._save(state)
  File "/home/someone/spct/learner/base.py", line 166, in _write
    models.save_model(self._model, state)
  File "/home/someone/spct/.venv/lib/python3.12/site-packages/launch/saving.py", line 9, in save
    raise Broken
Broken: {}"""

# vLLM's, while the process that was killed before it has not given its memory back yet
VLLM = "Free memory on device (3.1/79.1 GiB) on startup is less than desired GPU memory utilization (0.9, 71.2 GiB)."


class Broken(Exception):
    """Of a library."""


def lost(cause: Exception | None, text: str = STACK) -> ActorLost:
    failed = call_failed(cause, text)
    assert isinstance(failed, ActorLost)
    return failed


def test_a_learner_that_repeats_its_steps_and_dies_again_is_not_tried_for_ever() -> None:
    tries = Tries("the GRPO learner", 2)
    for which in ("try 1 of 2", "try 2 of 2"):
        for version in (1, 2, 3):
            tries.reached(version)
        assert tries.died(lost(None, "killed")) == which
    with pytest.raises(RunFailed, match="the GRPO learner failed 3 times in a row and got no further"):
        tries.died(lost(None, "killed"))
    assert tries.mended == 2


def test_getting_further_than_ever_forgives() -> None:
    tries = Tries("the GRPO learner", 1)
    for version in (3, 4, 5):
        tries.reached(version)
        assert tries.died(lost(None, "killed")) == "try 1 of 1"


@pytest.mark.parametrize("kind", [*FINAL, ConfigError, json.JSONDecodeError], ids=lambda kind: kind.__name__)
def test_an_error_that_follows_from_what_was_given_is_final(kind: Any) -> None:
    cause = json.JSONDecodeError("expected a value", "{", 1) if kind is json.JSONDecodeError else kind("bad input")
    failed = call_failed(cause, STACK)
    assert isinstance(failed, FinalError)
    assert "\n" not in str(failed)
    assert details(RunFailed("x")) == ""
    assert failed.details == STACK


@pytest.mark.parametrize(
    "cause",
    [
        FileNotFoundError(2, "No such file or directory", "model.safetensors"),
        PermissionError(13, "Permission denied", "model.safetensors"),
        IsADirectoryError(21, "Is a directory", "config.json"),
        NotADirectoryError(20, "Not a directory", "config.json/x"),
        OSError("Error no file named model.safetensors found in directory /models/mine."),
        TypeError("__init__() got an unexpected keyword argument 'pin_memory'"),
        ImportError("libtorch_python.so: undefined symbol: ncclCommInit, of NCCL"),
        ValueError("7.0 GiB KV cache is needed, which is larger than the available KV cache memory (3.2 GiB)."),
    ],
    ids=lambda cause: type(cause).__name__,
)
def test_a_file_that_is_not_there_or_a_setting_that_does_not_fit_is_not_tried_again(cause: Exception) -> None:
    assert isinstance(call_failed(cause, STACK), FinalError)


@pytest.mark.parametrize(
    "cause",
    [
        None,
        LocalEntryNotFoundError("cannot find the requested files in the cache, and outgoing traffic has been disabled"),
        ValueError("No available memory for the cache blocks."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 64 bytes"),
        OSError("disk"),
        TimeoutError("late"),
        ConnectionError("peer"),
        ServerError("gone"),
        RuntimeError("NCCL error"),
        ValueError(VLLM),
    ],
)
def test_what_lies_outside_of_the_program_may_come_back_any_number_of_times(cause: Exception | None) -> None:
    tries = Tries("the GRPO learner", 1)
    for version in range(1, 20):
        tries.reached(version)
        tries.died(lost(cause))


def test_the_same_error_is_that_of_one_type_and_one_place_of_ours() -> None:
    first, second = lost(Broken("out of room: 2.5 GiB")), lost(Broken("out of room: 300 MiB"))
    assert first.signature == second.signature == "Broken at learner/base.py _write"
    assert lost(KeyError("x")).signature != first.signature
    assert lost(Broken("x"), STACK.replace("_write", "_resume")).signature != first.signature
    without = [lost(Broken(f"of row {row}"), "no stack").signature for row in (1, 22)]
    assert without[0] == without[1] != lost(Broken("of column 1"), "no stack").signature


def test_an_error_is_one_line_with_its_type_unless_it_is_a_sentence_of_ours() -> None:
    assert sentence(KeyError("x")) == "KeyError: 'x'"
    assert sentence(ValueError("two\n  lines")) == "ValueError: two lines"
    assert sentence(CheckpointError("it does not fit")) == "it does not fit"
    assert sentence(AssertionError()) == "AssertionError"


def test_of_a_death_rays_first_line_is_told_and_of_a_constructor_its_error() -> None:
    died = "The actor died unexpectedly before finishing this task.\n\tclass_name: RolloutActor\n\tpid: 4711\nThe actor is dead"
    assert str(lost(None, died)) == "The actor died unexpectedly before finishing this task."
    made = (
        "The actor died because of an error raised in its creation task, ray::R.__init__()\n  File x\nServerError: no answer\n"
    )
    assert str(lost(None, made)) == "ServerError: no answer"
    unsendable = "\x1b[36mray::R.work()\x1b[39m (pid=4711)\n  File x\nBroken: it holds a lock"
    assert str(lost(None, unsendable)) == "Broken: it holds a lock"
    assert "\x1b" not in lost(None, unsendable).details
    assert str(lost(None, "")) == "it died"


def test_the_details_are_found_behind_the_failure_of_the_run() -> None:
    with pytest.raises(RunFailed) as caught:
        Tries("the reward actor", 0).died(lost(Broken("x")))
    assert details(caught.value) == STACK
    assert str(caught.value).endswith("the last time: Broken: x")


def test_a_final_error_is_not_tried_again() -> None:
    with pytest.raises(RunFailed, match=r"^the reward actor failed: ValueError: no such weight$"):
        Tries("the reward actor", 5).died(call_failed(ValueError("no such weight"), STACK))
