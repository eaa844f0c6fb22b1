"""A run whose server is up and whose streams were filled by hand, for what looks at a run from outside; a served judge."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from buffer import streams
from buffer.heartbeat import Heartbeat
from buffer.server import EmbeddedServer
from buffer.streams import PROMPTS, connect
from configs.load import dump
from launch.monitoring.lookup import locate_run
from tests.buffer.run_by_hand import Run
from tests.launch.judging.fake_server import judge_server
from tests.launch.silent_process import CONFIG

__all__ = ["judge_server"]  # a fixture of all tests here


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a run in ./runs/mine whose server is up."""
    home = tmp_path_factory.mktemp("home")
    folder = home / "runs" / "mine"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(dump(CONFIG), encoding="utf-8")
    with EmbeddedServer(folder / "redis"):
        yield home


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """At version 0, two groups of four outstanding, both claimed by rollout-0; all processes but the meta-RM's send
    heartbeats."""
    monkeypatch.chdir(home)
    monkeypatch.setenv("SPCT_RUN", str(home / "runs" / "mine"))
    _, address = locate_run("mine")
    client = connect(address)
    streams.setup(client, address.run_id, meta_rm=False)
    run = Run(client, address.run_id)
    run.issue(2)
    run.consumer(PROMPTS, "rollout-0", claim_timeout_s=60).claim(2, block_s=0)
    processes = [Heartbeat(address, name, every_s=0.1, hang_s=60) for name in ("driver", "grpo-0", "reward-0", "rollout-0")]
    yield run
    for process in processes:
        process.stop()
    streams.remove(client, address.run_id)
    client.close()
