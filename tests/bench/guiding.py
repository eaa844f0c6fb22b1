"""What judge tokens buy: the accuracy of plain votes and of meta-guided ones, for the same number of tokens.

    python -m tests.bench.guiding [--quick]

One run of `tiny` without cold start: the base votes on held-out pairs, RL trains it and a meta-RM beside it, it votes again,
and that meta-RM chooses the better half of both policies' votes. So one policy is weak and one is strong.

Tokens are those that a model computes. k votes on a preference cost the judge its prompt once for each order (the others come
from the prefix cache) and what it samples; guided ones are read by the meta-RM once more, a prompt once for each order as well:

    plain(k) = orders(k) · prompt + k · judgement         guided(k) = 2 · plain(k)

The accuracy at TOKENS lies on the line between the two k around it, over the logarithm of the tokens. Below 1, the same tokens
are better spent on more plain votes.
"""

import math
import tempfile
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from configs.load import load
from grm.sources import load as load_preferences
from launch.judging.vote_plan import vote_plan
from launch.judging.votes import judgements, rows_on_disk
from launch.setup.prompt_source import prompt_template
from tests.bench.figures import POLICIES
from tests.bench.rollout import Prompts
from tests.bench.side_by_side import Measured, main
from tests.launch import whole_run

TOKENS = 1000  # of judge and meta-RM, for one verdict
ORDERS = 2  # of two responses; a lone vote has one
OPTIONS = ("cold_start.enabled=false", "eval.every=0", "run.seed=0")
WHOLE = (*OPTIONS, "data.heldout=[tinyheld:2:100:2]", "grpo.steps=40", "eval.votes=[1,2,4,8,16,32]")
QUICK = (*whole_run.SMALL, *OPTIONS, "data.heldout=[tinyheld:2:8:2]", "eval.votes=[1,2,4]")


def cost(k: int, *, prompt: float, judgement: float) -> float:
    """Return the tokens that a judge computes for k votes on a pair.

    >>> cost(1, prompt=90, judgement=30), cost(8, prompt=90, judgement=30)
    (120, 420)
    """
    return min(k, ORDERS) * prompt + k * judgement


def accuracy_at(tokens: float, points: Sequence[tuple[float, float]]) -> float:
    """Return the accuracy for that many tokens, from points (tokens, accuracy) in ascending order; beyond them, the nearest.

    >>> accuracy_at(200, [(100, 0.6), (400, 0.8)])
    0.7
    >>> accuracy_at(50, [(100, 0.6), (400, 0.8)])
    0.6
    """
    inside = [(low, high) for low, high in pairwise(points) if low[0] <= tokens <= high[0]]
    if not inside:
        return points[0][1] if tokens < points[0][0] else points[-1][1]
    (before, low), (behind, high) = inside[0]
    share = math.log(tokens / before) / math.log(behind / before)
    return round(low + share * (high - low), 6)


def lengths(rows: Mapping[str, Mapping[str, Any]], prompts: Mapping[str, float]) -> tuple[float, float]:
    """Return the mean tokens of a prompt, and of a vote."""
    sampled = [each["tokens"] for row in rows.values() for each in judgements(row, "vote")]
    return fmean(prompts[name] for name in rows), fmean(sampled)


def prompt_lengths(options: Sequence[str]) -> dict[str, float]:
    """Return the tokens of each held-out preference's vote prompt, by its id; the mean over its orders."""
    config = load("tiny", [*options])
    tokenizer, plan = Prompts(config).tokenizer, vote_plan(config, prompt_template(config), ORDERS)
    return {
        p.question.id: fmean(len(tokenizer.encode(each.request.message)) for each in plan.votes(p.question))
        for name in config.data.heldout
        for p in load_preferences(name).preferences
    }


def of_policy(when: str, run: Path, prompts: Mapping[str, float], figures: Mapping[str, Any]) -> Measured:
    prompt, judgement = lengths(rows_on_disk(run / "votes" / f"{when}.jsonl"), prompts)
    ks = sorted(int(k) for k in (name.removeprefix("guided@") for name in figures) if k.isdecimal())
    costs = [cost(k, prompt=prompt, judgement=judgement) for k in ks]
    plain = [(tokens, figures[f"vote@{k}"]["value"]) for k, tokens in zip(ks, costs, strict=True)]
    guided = [(2 * tokens, figures[f"guided@{k}"]["value"]) for k, tokens in zip(ks, costs, strict=True)]
    middle = ks[len(ks) // 2]
    at_middle = f"{figures[f'guided@{middle}']['value']:.3f} against {figures[f'vote@{middle}']['value']:.3f}"
    return Measured(
        figure=f"guiding {when}",
        unit="share right",
        ours=(accuracy_at(TOKENS, guided),),
        against=(accuracy_at(TOKENS, plain),),
        note=f"a prompt {prompt:.0f}, a vote {judgement:.0f} tokens; for equal votes, k = {middle}: {at_middle}",
    )


def measure(quick: bool) -> list[Measured]:
    options = QUICK if quick else WHOLE
    with tempfile.TemporaryDirectory(prefix="spct-bench-") as place:
        ended = whole_run.run(Path(place), "guiding", *options)
        if ended.status:
            raise RuntimeError(f"the run failed:\n{ended.output}")
        prompts = prompt_lengths(options)
        return [of_policy(when, ended.folder, prompts, ended.summary["votes"][when]) for when in POLICIES]


if __name__ == "__main__":
    main(measure, __doc__)
