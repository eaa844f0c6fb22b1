"""A meta-RM in this process: how likely each judgement of a question is right, as a logit."""

from collections.abc import Sequence

from configs.schema import Config
from grm.preferences import Question
from launch.judging.meta_prompts import in_sample_order, meta_prompts
from launch.judging.protocol import Answer
from launch.judging.vote_plan import VotePlan
from launch.setup.model_integrity import check_model_folder
from launch.setup.tokenizer import Tokenizer


class MetaScores:
    """A meta-RM that is loaded."""

    def __init__(self, config: Config, folder: str, *, tokenizer: Tokenizer | None = None) -> None:
        """Load the meta-RM of a folder. ConfigError, ValueError when it is none. `tokenizer` is its own; None: it is loaded."""
        from learner.meta_scorer import MetaScorer  # DeepSpeed comes with it, which a judge alone does not need

        check_model_folder(folder, trained=True)
        self._tokenizer = tokenizer or Tokenizer(folder, thinking=config.prompts.thinking)
        self._scorer = MetaScorer(config, model_path=folder)

    def logits(self, plan: VotePlan, question: Question, samples: Sequence[tuple[tuple[int, ...], Answer]]) -> list[float]:
        """Returns the logit of each judgement, in order.

        Args:
            plan: How the judge was asked.
            question: What was judged.
            samples: The order in which each judgement has read the responses, and its answer.
        """
        rows = [{"permutation": order, "text": answer.text, "finish": answer.finish} for order, answer in samples]
        asked = meta_prompts(self._tokenizer, plan, question, rows)
        return in_sample_order(rows, iter(self._scorer.score(asked)))
