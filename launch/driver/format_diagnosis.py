"""What a person must know of a policy that does not keep the format: how few of its judgements were read, one to look at, and
what helps. Online RL cannot begin from nothing: where no judgement is right, all rewards of a group are equal.

judgements ─▶ share that the strict parser of training read ─▶ lines; with none at all of many ─▶ `RunFailed`
"""

import textwrap

from configs.schema import Config
from launch.judging.heldout import Evaluation
from launch.judging.run_judgements import Unread
from learner.arrivals import ArrivalsReport

FEW = 0.05  # of the judgements that are read, below which it is said
HOPELESS = 512  # judgements of which not one is read: 95 % sure of fewer than 0.6 % (rule of three)
SHOWN, WIDTH, LINES = 700, 100, 12  # of a completion that is shown: characters, and how they are laid out


def of_evaluation(config: Config, result: Evaluation, unread: Unread | None, *, whose: str) -> list[str]:
    """Returns the lines on a policy that was evaluated; none where it keeps the format.

    Args:
        config: The run's.
        result: Its evaluation.
        unread: One of its judgements that were not read.
        whose: The policy, in words.
    """
    strict = result.parse_rate if result.strict_parse_rate is None else result.strict_parse_rate
    if strict >= FEW:
        return []
    head = f"{whose} does not keep the format: {strict:.1%} of its judgements were read as training reads them"
    return [head, *(shown(unread) if unread else []), *remedies(config)]


def of_completions(config: Config, judged: int, unread: Unread | None, *, cut: float = 0.0) -> str:
    """Returns the same of sampled judgements, none of which was read, as the text of a failure.

    Args:
        config: The run's.
        judged: How many there were.
        unread: One of them; None where there is none at hand.
        cut: Share of them, 0..1, that ended at the token limit.
    """
    at_limit = f" ({cut:.0%} were cut at rollout.max_new_tokens)" if cut else ""
    head = f"none of {judged:,} judgements was read{at_limit}, so nothing can be learnt"
    return "\n".join([head, *(shown(unread) if unread else []), *remedies(config)])


def of_nothing(config: Config, report: ArrivalsReport) -> bool:
    """Returns whether no judgement was ever read, of many: no step was taken, and what arrived holds none."""
    judged, failed = report.groups * config.rollout.samples, report.metrics.get("parse/failure_rate", 0.0)
    return not report.version and failed == 1.0 and is_hopeless(judged, read=0)


def of_arrivals(config: Config, report: ArrivalsReport, unread: Unread | None) -> str:
    """As `of_completions`, of what arrived at the learner."""
    cut = report.metrics.get("length/truncated_fraction", 0.0)
    return of_completions(config, report.groups * config.rollout.samples, unread, cut=cut)


def is_hopeless(judged: int, read: int) -> bool:
    """Returns whether so many judgements were sampled, and so few of them read, that the run ends."""
    return not read and judged >= HOPELESS


def shown(unread: Unread) -> list[str]:
    """Returns the beginning of a completion, indented, and why it was not read."""
    lines = [part for line in unread.text[:SHOWN].splitlines() for part in textwrap.wrap(line, WIDTH) or [""]]
    more = [] if len(unread.text) <= SHOWN and len(lines) <= LINES else ["…"]
    return [f"one of them ({unread.reason}):", *(f"  | {line}" for line in [*lines[:LINES], *more])]


def remedies(config: Config) -> list[str]:
    """Returns what helps, as far as the run does not do it already."""
    cold, prompts = config.cold_start, config.prompts
    found = []
    if not cold.enabled:
        found.append("cold_start.enabled=true: the policy learns the format from those of its own judgements that are right")
    elif not cold.teacher:
        found.append("cold_start.teacher=http://HOST:PORT/v1: a model that keeps it writes what the cold start learns")
    if prompts.style != "example" and not prompts.template_path:
        found.append("prompts.style=example: the prompt shows a judgement")
    found.append(f"rollout.max_new_tokens above {config.rollout.max_new_tokens}: judgements have room to end")
    return ["what helps:", *(f"  - {each}" for each in found)]
