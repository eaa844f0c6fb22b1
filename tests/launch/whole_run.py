"""Starts whole runs as a user does, and looks at what they leave behind."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]
# Of the preset `tiny`: a judge of the plain folder, which has no judge.json, is told them.
LENGTHS = ("prompts.style=compact", "model.context=256", "rollout.max_new_tokens=64")
SMALL = (
    "grpo.steps=3",
    "grpo.batch_groups=4",
    "rollout.samples=4",
    "meta_rm.batch=16",
    "grpo.warmup_steps=0",
    "data.train=tiny:1:200",
    "data.heldout=tinyheld:2:24:2",
    "eval.every=2",
    "eval.during_limit=8",
    "tracking.samples=3",
    "cold_start.enabled=false",
    "eval.votes=[]",
)
# the same with all of the method: a cold start before, votes after
SPCT = (
    *SMALL,
    "cold_start.enabled=true",
    "cold_start.preferences=24",
    "cold_start.steps=6",
    "cold_start.batch=16",
    "cold_start.eval_every=2",
    "eval.votes=[1,2,4]",
    "eval.votes_limit=8",
)


@dataclass(frozen=True)
class Ended:
    """A run that has ended."""

    status: int
    """Its exit status."""
    output: str
    """Its output, standard error included."""
    folder: Path
    """Its run folder."""

    @property
    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "summary.json").read_text())
        return found

    def series(self, name: str) -> list[float]:
        """A metric over the run, from metrics.jsonl."""
        records = [json.loads(line)["metrics"] for line in (self.folder / "metrics.jsonl").read_text().splitlines()]
        return [record[name] for record in records if name in record]


def environment(**more: str) -> dict[str, str]:
    """Ours, without what would send the run elsewhere."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "WANDB_"))}
    return kept | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TERM": "dumb"} | more


def start(
    where: Path,
    name: str,
    *overrides: str,
    config: str = "tiny",
    entry: str = "run.py",
    output: IO[str] | int = subprocess.PIPE,
    process_group: int | None = None,
    **env: str,
) -> subprocess.Popen[str]:
    """`output`: a file for a run that prints more than a pipe holds while nobody reads."""
    command = [sys.executable, str(ROOT / "launch" / entry), "--config", config, f"run.dir={where}", f"run.id={name}"]
    return subprocess.Popen(
        [*command, *overrides],
        cwd=where,
        env=environment(**env),
        text=True,
        stdout=output,
        stderr=subprocess.STDOUT,
        process_group=process_group,
    )


def evaluate_to_end(where: Path, *arguments: str, timeout_s: float = 900) -> str:
    """Run an evaluation to its end, which must be a good one. Returns what it prints."""
    command = [sys.executable, str(ROOT / "launch" / "evaluate.py"), *arguments, "tracking.mode=disabled"]
    done = subprocess.run(
        command,
        cwd=where,
        env=environment(),
        text=True,
        timeout=timeout_s,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def finish(process: subprocess.Popen[str], folder: Path, timeout_s: float = 900) -> Ended:
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=120)
        raise AssertionError(f"no end after {timeout_s} s:\n{output}") from None
    return Ended(status=process.returncode, output=output, folder=folder)


def run(where: Path, name: str, *overrides: str, config: str = "tiny", entry: str = "run.py", **env: str) -> Ended:
    return finish(start(where, name, *overrides, config=config, entry=entry, **env), where / name)


def mentioning(text: str) -> dict[int, str]:
    """{pid: command line} of living processes whose command line or environment mentions the text."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            surroundings = (entry / "environ").read_bytes().decode(errors="replace")
        except OSError:  # it ended while we looked
            continue
        if state != "Z" and (text in line or text in surroundings):
            found[int(entry.name)] = line
    return found


def await_end_of_all(text: str, limit_s: float = 60.0, *, but: tuple[str, ...] = ()) -> None:
    """Wait until no process mentions the text but those whose command line begins so. On a Ray that a run has joined, its
    actors end a moment after it: they were told to, and free their memory at the lowest priority."""
    deadline = time.monotonic() + limit_s
    while left := [line for line in mentioning(text).values() if not line.startswith(but)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


def kill_mentioning(text: str, number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to all processes that `mentioning` finds and that have not ended meanwhile."""
    for pid in mentioning(text):
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def shared_memory() -> set[str]:
    """Returns the names of what is in the machine's shared memory."""
    return set(os.listdir("/dev/shm"))


def wait_for(
    folder: Path, text: str, process: subprocess.Popen[str], timeout_s: float = 900, *, file_name: str = "metrics.jsonl"
) -> None:
    """Until a file of the run, its metrics by default, holds a text."""
    deadline = time.monotonic() + timeout_s
    file = folder / file_name
    while time.monotonic() < deadline:
        if file.exists() and text in file.read_text():
            return
        if process.poll() is not None:
            raise AssertionError(f"the run ended before {text!r}: {process.communicate()[0]}")
        time.sleep(0.2)
    raise AssertionError(f"waited {timeout_s} s for {text!r} in {file}")
