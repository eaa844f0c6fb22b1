"""The checks of a card's engine on a CPU, in one small engine with asynchronous scheduling, as on cards."""

import os
from collections.abc import Iterator

import pytest

from actors.vllm_build import CPU_ENVIRONMENT, ENVIRONMENT
from tests.actors.test_vllm_pause import switch_on
from tests.gpu import engine_checks
from tests.gpu.parts import Check
from tests.gpu.small import passes

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[engine_checks.Subject]:
    for name, value in (ENVIRONMENT | CPU_ENVIRONMENT).items():  # before the import of vLLM in `switch_on`
        os.environ.setdefault(name, value)
    with pytest.MonkeyPatch.context() as patch:
        switch_on(patch)
        with engine_checks.prepared("cpu", tmp_path_factory.mktemp("engine")) as prepared:
            yield prepared


@pytest.mark.parametrize("check", engine_checks.CHECKS)
def test_on_a_small_model_it_passes(subject: engine_checks.Subject, check: Check) -> None:
    passes(check, subject)
