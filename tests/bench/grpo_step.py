"""One optimiser step of GRPO, against the multiply-adds that it needs, and against TRL's step on the same batch.

    python -m tests.bench.grpo_step [--quick]
    TRL_PYTHON=VENV/bin/python python -m tests.bench.grpo_step      with TRL (tests/bench/trl_step.py says what VENV holds)

- flops: `PolicyUpdate.apply` on a fixed batch of random tokens: forward and backward of the policy (6·N·T flop), forward of the
  frozen reference (2·N·T), optimiser. N: all parameters, tied ones once. T: tokens, a prompt that G completions share counted
  once. Against it: torch's float32 matrix product, 2·1024³ flop again and again for half a second, in this process.
- trl: steps/s of TRL's `GRPOTrainer` on the same token ids, rewards, β and learning rate, without gradient checkpointing, as
  many threads. It sees each prompt G times: that is how it trains.
- memory: the largest resident set of the process, models and optimiser included.

The rounds alternate. A model that is not installed (`make smollm2`), and TRL where nobody names it, are left out and said.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from buffer.messages import ExperienceGroup
from configs.load import load
from launch.setup.model_files import resolve
from tests.bench.side_by_side import Contender, Measured, is_installed, main, turns
from tests.learner.random_groups import random_group

# preset, and its batch: groups, completions of each, tokens of a prompt and of a completion
BATCHES = {"tiny": ("tiny", 8, 8, 150, 60), "smollm2": ("smollm2-135m", 2, 4, 300, 80)}
ROUNDS = {"tiny": 7, "smollm2": 3}
QUICK = {"tiny": ("tiny", 2, 2, 20, 10)}
EDGE = 1024  # of the matrices that are multiplied
VOCABULARY = 200  # all models have more tokens


def batch(groups: int, samples: int, prompt: int, completion: int) -> list[ExperienceGroup]:
    """Return groups of random tokens, each of one prompt, half of its completions right."""
    shape: Any = {"prompts": (prompt,), "samples": (samples,), "completion": completion}
    return [random_group(number, **shape, vocabulary=VOCABULARY, logprob=-6.0) for number in range(groups)]


def tokens_once(groups: list[ExperienceGroup]) -> int:
    """Return the tokens of a batch, prompts that are shared counted once."""
    return sum(len(ids) for group in groups for ids in (*group.prompt_ids, *group.completion_ids))


def our_step(preset: str, *shape: int) -> Callable[[], dict[str, float]]:
    """Build our learner in this process; each call takes a step."""
    from learner.policy_update import PolicyUpdate
    from learner.ranks import Ranks

    config = load(preset, ["data.train=[unused]", "data.heldout=[unused]"])
    ranks = Ranks(rank=0, world=1, host="127.0.0.1", port=0, device="cpu", timeout_s=60)
    update, groups = PolicyUpdate(config, ranks, resolve(config.model.path)), batch(*shape)
    parameters = sum(weight.numel() for weight in update.engine.module.parameters())

    def step() -> dict[str, float]:
        began = time.perf_counter()
        update.apply(groups)
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "flop": 8.0 * parameters * tokens_once(groups), "peak_mib": peak_mib()}

    return step


def peak_mib() -> float:
    """Return the largest resident set that this process had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def sgemm_flop_s(seconds: float = 0.5) -> float:
    """Return the flop/s of float32 matrix products, with as many threads as a learner has."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    left, right = torch.randn(EDGE, EDGE), torch.randn(EDGE, EDGE)
    torch.mm(left, right)
    began, products = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        torch.mm(left, right)
        products += 1
    return 2.0 * EDGE**3 * products / (time.perf_counter() - began)


class TrlProcess:
    """`tests/bench/trl_step.py` in the environment of the user's choice; called like a `Contender`."""

    def __init__(self, python: str, preset: str, *shape: int) -> None:
        config = load(preset, ["data.train=[unused]", "data.heldout=[unused]"])
        self._folder = tempfile.TemporaryDirectory(prefix="spct-bench-")
        plan = {
            "model": resolve(config.model.path),
            "groups": [
                {"prompt": group.prompt_ids[0], "completions": group.completion_ids, "rewards": group.rewards}
                for group in batch(*shape)
            ],
            "beta": config.grpo.beta,
            "lr": config.grpo.lr,
            "temperature": config.rollout.temperature,
            "folder": self._folder.name,
        }
        file = Path(self._folder.name) / "plan.json"
        file.write_text(json.dumps(plan))
        command = [python, "-m", "tests.bench.trl_step", str(file)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()

    def __call__(self) -> dict[str, float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("step\n")
        self._process.stdin.flush()
        for line in self._process.stdout:  # TRL may print, too
            if line.startswith('{"seconds"'):
                answer: dict[str, float] = json.loads(line)
                return answer
        raise RuntimeError(f"TRL ended with status {self._process.wait()}: its error stands above")


def of_model(model: str, preset: str, shape: tuple[int, ...], rounds: int, trl: str) -> list[Measured]:
    with ExitStack() as stack:
        contenders: dict[str, Callable[[], Any]] = {"sgemm": sgemm_flop_s}
        contenders["ours"] = stack.enter_context(Contender("our learner", partial(our_step, preset, *shape)))
        if trl:
            contenders["trl"] = stack.enter_context(TrlProcess(trl, preset, *shape))
        values = turns(rounds, contenders)
    ours = values["ours"]
    found = [
        Measured(
            figure=f"grpo_step {model} flops",
            unit="flop/s",
            ours=tuple(step["flop"] / step["seconds"] for step in ours),
            against=tuple(values["sgemm"]),
        )
    ]
    if trl:
        speeds = [tuple(1 / step["seconds"] for step in values[name]) for name in ("ours", "trl")]
        peaks = [tuple(step["peak_mib"] for step in values[name]) for name in ("ours", "trl")]
        found.append(Measured(figure=f"grpo_step {model} trl", unit="steps/s", ours=speeds[0], against=speeds[1]))
        found.append(Measured(figure=f"grpo_step {model} memory", unit="MiB", ours=peaks[0], against=peaks[1]))
    return found


def measure(quick: bool) -> list[Measured]:
    trl, found = os.environ.get("TRL_PYTHON", ""), list[Measured]()
    if not trl:
        print("grpo_step: TRL_PYTHON names no environment with TRL, so nothing is compared with it", file=sys.stderr)
    for model, (preset, *shape) in (QUICK if quick else BATCHES).items():
        if not is_installed(preset):
            continue
        found += of_model(model, preset, tuple(shape), 2 if quick else ROUNDS[model], trl)
    return found


if __name__ == "__main__":
    main(measure, __doc__)
