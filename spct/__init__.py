"""A generative reward model in Python: score, rank and compare responses, or reward the completions of another trainer.

    with spct.Judge("runs/mine") as judge:
        result = judge.score("Why is the sky blue?", ["Rayleigh scattering.", "It reflects the sea."], votes=8)
        result.scores, result.shares, result.judgements[0].critique

A thin package over the rooms below it: what a judge is asked, how it is read and how votes are counted are those of an
evaluation. Nothing heavy is imported before a judge is opened.
"""

from typing import TYPE_CHECKING, Any

from grm.scored import Judgement, Scored
from spct.judge import Judge
from spct.results import Comparison

if TYPE_CHECKING:
    from configs.load import ConfigError
    from launch.judging.protocol import NotJudged

__all__ = ["Comparison", "ConfigError", "Judge", "Judgement", "NotJudged", "Scored"]


def __getattr__(name: str) -> Any:
    """Returns an error class of the rooms below, which are imported only when it is asked for."""
    if name == "NotJudged":
        from launch.judging.protocol import NotJudged

        return NotJudged
    if name == "ConfigError":
        from configs.load import ConfigError

        return ConfigError
    raise AttributeError(f"module 'spct' has no attribute {name!r}")
