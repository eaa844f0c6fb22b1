"""One GPU for all parts of a run: what that leaves no choice about."""

import pytest

from configs.load import ConfigError, load
from configs.schema import Config

SHARED = ("cluster.device=cuda", "cluster.share_gpu=true")


def shared(*changes: str) -> Config:
    return load("tiny", [*SHARED, *changes])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("cluster.device=cpu", "cluster.share_gpu = true shares a GPU, and cluster.device = cpu has none"),
        ("rollout.workers=2", "has room for one process of a kind, but rollout.workers = 2: set 1"),
        ("learner.ranks=2", "but learner.ranks = 2: set 1"),
        ("meta_rm.ranks=2", "but meta_rm.ranks = 2: set 1"),
        ("rollout.autoscale_max=2", "has one rollout worker, but rollout.autoscale_max = 2: set 0"),
    ],
)
def test_one_process_of_a_kind_fits_on_a_card(change: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        shared(change)


def test_what_takes_no_part_is_not_counted() -> None:
    shared("meta_rm.enabled=false", "meta_rm.ranks=2")
    load("tiny", ["rollout.workers=2", "learner.ranks=2", "meta_rm.ranks=2"])


def test_the_cache_of_an_engine_has_a_size_where_it_is_not_alone_on_a_gpu() -> None:
    """An engine that measured what is free would count what others are about to take."""
    assert load("tiny").kv_cache_bytes == shared().kv_cache_bytes == 256 << 20
    assert load("tiny", ["cluster.device=cuda"]).kv_cache_bytes is None
