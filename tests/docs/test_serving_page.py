"""docs/serving.md: what it shows of each caller is run, against the routes of the server over a core that judges by a rule."""

import asyncio
import importlib
import re
import shlex
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
import yaml

from launch.serving.interfaces import INTERFACES
from launch.serving.protocol import VerdictRequest
from launch.serving.settings import ServerSettings
from spct import swift
from tests.docs.test_documents import text_of
from tests.launch.serving.fake_service import FakeService, Live, live
from tests.launch.serving.trainers import openrlhf, slime

PAGE = text_of("docs/serving.md")
SHOWN = "http://127.0.0.1:8000"
PROMPT = "<|im_start|>user\nName a prime.<|im_end|>\n<|im_start|>assistant\n"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in blocks("bash") for line in re.sub(r"\\\n|\n(?= )", " ", block).strip().splitlines()]


def command(part: str) -> list[str]:
    """The words of the one command with a part in it."""
    (line,) = [each for each in COMMANDS if part in each]
    return shlex.split(line, comments=True)


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Live, FakeService]]:
    service = FakeService()
    with live(service, *INTERFACES) as running:
        yield running, service


@pytest.fixture
def address(server: tuple[Live, FakeService]) -> str:
    vars(server[1]).update(vars(FakeService(deadline_s=5.0)))
    return server[0].url


def test_the_page_has_the_blocks_that_are_run_here() -> None:
    assert [len(blocks(language)) for language in ("bash", "python", "yaml")] == [5, 4, 2]
    assert len(COMMANDS) == 6


@pytest.mark.parametrize("route", ["/v1/judge", "/verify"])
def test_curl(address: str, route: str) -> None:
    """As curl would send it: the project needs no curl."""
    words = [each.replace(SHOWN, address) for each in command(route)]
    assert words[:2] == ["curl", "-s"]
    name, _, value = option(words, "-H").partition(": ")
    answer = httpx2.post(words[2], content=option(words, "-d"), headers={name: value}, timeout=30).json()
    assert answer.get("responses") or answer["reward"]


@pytest.mark.parametrize("number", range(4))
def test_python(address: str, number: int, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(blocks("python")[number].replace(SHOWN, address), f"docs/serving.md, block {number + 1}", "exec"), {})
    assert capsys.readouterr().out.strip()


def test_the_flag_of_openrlhf(address: str) -> None:
    url = option(command("openrlhf"), "--reward.remote_url").replace(SHOWN, address)
    assert asyncio.run(openrlhf(url, PROMPT + "aaa<|im_end|>", PROMPT)).reward == 3.0


def test_the_flags_of_slime(address: str, server: tuple[Live, FakeService]) -> None:
    words = command("remote_rm")
    assert asyncio.run(slime(option(words, "--rm-url").replace(SHOWN, address), "Name a prime.", "aa")).reward == 2.0
    words = command("--group-rm")
    module, _, name = option(words, "--custom-rm-path").rpartition(".")
    group_rewards = getattr(importlib.import_module(module), name)
    samples = [SimpleNamespace(prompt="Name a prime.", response=each) for each in ("a", "aaa")]
    rewards = group_rewards(SimpleNamespace(rm_url=option(words, "--rm-url").replace(SHOWN, address)), samples)
    assert asyncio.run(rewards) == [1.0, 3.0]
    assert isinstance(server[1].requests[-1], VerdictRequest)


def named(path: str, name: str) -> Any:
    """What verl loads for `pkg://module` and a name."""
    assert path.startswith("pkg://")
    return getattr(importlib.import_module(path.removeprefix("pkg://")), name)


def test_the_yaml_of_verl(address: str) -> None:
    function, manager = (yaml.safe_load(block.replace(SHOWN, address))["reward"] for block in blocks("yaml"))
    asked = function["custom_reward_function"]
    compute_score = named(asked["path"], asked["name"])
    assert asked["reward_kwargs"].pop("group_size") == 8
    info = {"prompt": "Name a prime."}
    result = compute_score(data_source="d", solution_str="aa", ground_truth=None, extra_info=info, **asked["reward_kwargs"])
    assert asyncio.run(result)["score"] == 2.0
    of_manager = manager["reward_manager"]
    assert of_manager["source"] == "importlib"
    config = {"reward": manager, "actor_rollout_ref": {"rollout": {"n": 1, "val_kwargs": {"n": 1}}}}
    made = named(of_manager["module"]["path"], of_manager["name"])(config, None, None)
    assert made._judge.client.url == address


def test_the_plugin_of_ms_swift(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "from spct.swift import JudgeReward" in PAGE
    monkeypatch.setenv("SPCT_REWARD_URL", address)
    assert swift.JudgeReward()(["aa"], messages=[[{"role": "user", "content": "Name a prime."}]]) == [2.0]


def test_options_routes_and_statuses_are_the_servers_own(address: str) -> None:
    assert f"`--deadline-s` ({ServerSettings(model='m').deadline_s:.0f} s)" in PAGE
    routes = {getattr(route, "path", "") for interface in INTERFACES for route in interface(FakeService()).routes}
    told = set(re.findall(r"(?<=[`0])/(?:v1/\w+(?:/\w+)?|get_reward|slime(?:/verdict)?|verify|compare)\b", PAGE))
    assert told - {"/v1/served"} <= routes
    assert routes - told <= {"/seed_session", "/reverify_mode", "/aggregate_metrics"}
    lost = httpx2.post(f"{address}/get_reward", json={"query": ["a"], "prompts": ["b"], "labels": [None]}, timeout=30)
    assert lost.status_code == 400


def test_the_example_of_the_sizing() -> None:
    n, k, c, d = 8, 8, 900, 4000
    assert d / (k * c) == pytest.approx(0.56, abs=0.005)
    assert n * d / (k * c) == pytest.approx(4.4, abs=0.05)
    assert 128 / (d / (k * c)) == pytest.approx(230, abs=1)
    assert d / (k * 300) == pytest.approx(1.7, abs=0.05)
