"""The curves of the report: one card a chart.

A card names metrics of `launch/monitoring/metrics.py`, so that no chart can show what nothing logs (a test checks it). A
card whose metrics the run did not log is left out.
"""

from collections.abc import Callable
from dataclasses import dataclass

from launch.page.number_format import number, percent, signed


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """One line of a card."""

    metric: str
    """Name of the metric; one that ends in @k stands for every k that was logged."""
    name: str
    """Name of the line in the legend."""
    of: Callable[[float], float] = float
    """What is drawn of a value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """A horizontal line to compare with."""

    name: str
    """Name of the line in the legend."""
    source: tuple[str, str] | float
    """Its value, or the value's path in summary.json."""
    limit: bool = False
    """Whether it is a bound that must not be exceeded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """One chart."""

    title: str
    """Title of the card."""
    what: str
    """What is drawn, in one or two sentences."""
    traces: tuple[Trace, ...]
    """The lines; their metrics share an axis."""
    show: Callable[[float], str]
    """Writes a value of the y axis."""
    low: float | None = 0.0
    """A value of the y axis that is always in view."""
    high: float | None = None
    """Another one."""
    smooth: bool = False
    """Whether a long line is drawn faint under its running mean."""
    whole: bool = False
    """Whether the ticks of the y axis are whole numbers."""
    references: tuple[Reference, ...] = ()
    """Lines to compare with."""


CARDS = (
    Card(
        title="Held-out accuracy",
        what="Share of held-out preferences judged correctly in the course of training.",
        traces=(Trace(metric="eval/accuracy@k", name="k ="),),
        show=percent,
        low=None,
        references=(
            Reference(name="chance", source=("baselines", "chance")),
            Reference(name="longest answer", source=("baselines", "longest_answer")),
        ),
    ),
    Card(
        title="Reward",
        what="Mean over all completions that arrived for a step: +1 right, \u22121 wrong or unparsable.",
        traces=(Trace(metric="reward/mean", name="reward"),),
        show=signed,
        low=None,
        smooth=True,
    ),
    Card(
        title="Parse rate",
        what="Share of completions that parse into a judgement.",
        traces=(
            Trace(metric="parse/failure_rate", name="in training", of=lambda rate: 1 - rate),
            Trace(metric="eval/parse_rate@k", name="held out, k ="),
        ),
        show=percent,
        low=None,
        high=1.0,
    ),
    Card(
        title="Staleness",
        what="Policy versions between a group's issue and its training.",
        traces=(Trace(metric="staleness/max", name="max"), Trace(metric="staleness/mean", name="mean")),
        show=number,
        whole=True,
        references=(Reference(name="bound", source=("staleness", "bound"), limit=True),),
    ),
    Card(
        title="Idle time",
        what="Share of time without work. Asynchrony is there to keep both low.",
        traces=(Trace(metric="idle/learner_ratio", name="learner"), Trace(metric="idle/rollout_ratio", name="rollout")),
        show=percent,
        smooth=True,
    ),
    Card(
        title="Meta-RM",
        what="How well it predicts which judgements are right, on each batch before training on it.",
        traces=(
            Trace(metric="meta_rm/auc", name="AUC"),
            Trace(metric="meta_rm/auc_within", name="AUC within preferences"),
            Trace(metric="meta_rm/accuracy", name="accuracy"),
        ),
        show=number,
        low=None,
        high=1.0,
        smooth=True,
        references=(Reference(name="chance", source=0.5),),
    ),
    Card(
        title="Policy entropy",
        what="Mean entropy per trained token, in nats. Near zero the policy no longer explores.",
        traces=(Trace(metric="policy/entropy", name="entropy"),),
        show=number,
        smooth=True,
    ),
    Card(
        title="Distance to the reference",
        what="k3 estimate of KL(policy, reference) per token, before \u03b2.",
        traces=(Trace(metric="loss/kl", name="KL"),),
        show=number,
    ),
    Card(
        title="Gradient norm",
        what="Global norm before clipping.",
        traces=(Trace(metric="optim/grad_norm", name="norm"),),
        show=number,
        smooth=True,
    ),
    Card(
        title="Groups without a gradient",
        what="Share of groups whose completions are all right or all wrong, so that nothing distinguishes them.",
        traces=(Trace(metric="reward/solved_all", name="all right"), Trace(metric="reward/solved_none", name="all wrong")),
        show=percent,
        smooth=True,
    ),
    Card(
        title="Position",
        what="Judgements of one preference in different orders: how often two pick the same response,"
        " and how much more often than by chance it is the one shown first.",
        traces=(
            Trace(metric="position/consistency", name="same pick"),
            Trace(metric="position/first_excess", name="first, above chance"),
        ),
        show=percent,
        low=None,
        smooth=True,
    ),
    Card(
        title="Off-policy drift",
        what="The cost of training on older tokens: 1 \u2212 ESS of the importance weights, and the share of tokens cut.",
        traces=(
            Trace(metric="off_policy/ess", name="sample lost", of=lambda share: 1 - share),
            Trace(metric="off_policy/clip_fraction", name="cut"),
        ),
        show=percent,
        smooth=True,
    ),
    Card(
        title="Completion length",
        what="Tokens of the completions that arrived for a step.",
        traces=(
            Trace(metric="length/completion_p50", name="median"),
            Trace(metric="length/completion_p95", name="95th percentile"),
        ),
        show=number,
        smooth=True,
    ),
    Card(
        title="Truncated completions",
        what="Share of completions cut at max_new_tokens, before their end token.",
        traces=(Trace(metric="length/truncated_fraction", name="truncated"),),
        show=percent,
        smooth=True,
    ),
    Card(
        title="Time per step",
        what="Where the learner's seconds go.",
        traces=(
            Trace(metric="time/wait_for_experience_s", name="waiting"),
            Trace(metric="time/train_s", name="training"),
            Trace(metric="time/publish_s", name="publishing"),
        ),
        show=number,
        smooth=True,
    ),
    Card(
        title="Throughput",
        what="Tokens sampled per second by all rollout actors.",
        traces=(Trace(metric="throughput/tokens_per_s", name="tokens/s"),),
        show=number,
        smooth=True,
    ),
    Card(
        title="Request latency",
        what="Seconds of a group in the engine, from its submission to its last token.",
        traces=(
            Trace(metric="rollout/request_latency_s", name="mean"),
            Trace(metric="rollout/request_latency_p95_s", name="95th percentile"),
        ),
        show=number,
        smooth=True,
    ),
    Card(
        title="Lost hand-offs",
        what="Finished groups that another rollout actor had handed off first: work done twice.",
        traces=(Trace(metric="groups/lost_hand_offs", name="groups"),),
        show=number,
        whole=True,
    ),
)
