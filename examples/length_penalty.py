"""A reward rule of one's own: a right judgement earns less, the longer it is.

    python launch/run.py --config tiny grpo.reward=examples/length_penalty.py:reward

Above 0 stays right and below 0 wrong, as the cold start and the meta-RM expect.
"""

from grm.rewards import JudgedCompletion, paper_rule

LONG = 2000  # characters of a judgement that loses half of its reward


def reward(judged: JudgedCompletion) -> float:
    """Returns +1 for a right judgement, less up to half of it for its length, and -1 for a wrong one."""
    right = paper_rule(judged)
    return right - 0.5 * min(1.0, len(judged.completion) / LONG) if right > 0 else right
