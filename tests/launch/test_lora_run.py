"""A whole run of adapters: cold start, online RL with pulls, meta-RM, votes; then its whole model."""

from pathlib import Path

import pytest

from launch.merge import main
from launch.setup.model_integrity import check_model_folder
from tests.launch.whole_run import SPCT, run

pytestmark = [pytest.mark.slow, pytest.mark.full]


def test_a_run_of_adapters_goes_through_all_stages_and_its_policy_is_merged(tmp_path: Path) -> None:
    settings = ("learner.lora_rank=4", "grpo.lr=5e-3", "cold_start.lr=5e-3", "meta_rm.lr=5e-3", "rollout.workers=2")
    ended = run(tmp_path, "lora", *SPCT, *settings)
    assert ended.status == 0, ended.output
    assert ended.series("learner/version")[-1] == 3
    policy = ended.folder / "checkpoints" / "policy" / "version-000003"
    names = {path.name for path in policy.iterdir()} - {"zero_to_fp32.py", "zero_to_torch.py"}  # DeepSpeed's
    assert names == {"adapter", "engine", "record.json"}
    check_model_folder(str(ended.folder / "cold_start" / "model"), trained=True)
    (meta_rm,) = sorted((ended.folder / "checkpoints" / "meta-rm").iterdir())[-1:]
    check_model_folder(str(meta_rm / "model"), trained=True)
    assert ended.summary["accuracy"]
    assert main([str(policy), str(tmp_path / "whole")]) == 0
    check_model_folder(str(tmp_path / "whole"), trained=True)
