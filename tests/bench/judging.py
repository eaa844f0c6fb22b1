"""What verdicts cost: k votes on each preference by the project's own engine.

    python -m tests.bench.judging [--quick]

`VotePlan.votes` makes the requests of held-out preferences (balanced orders of the responses, one request an order), one
`VllmEngine` answers them all at once. A round is k = 1, 8, 32 in turn, on preferences that the engine has not seen.

- verdicts: votes/s; at k = 8 and 32 against those at k = 1, in the same round.
- tokens: tokens that the engine computes for a vote: prompt tokens that are not in its prefix cache, and sampled ones.
- reuse: prompt tokens read from the prefix cache, divided by all prompt tokens. A cache holds whole blocks of BLOCK tokens, and
  votes in another order share the text before the responses only.
- blocks: the same against what can be reused at most: of each prompt the whole blocks before its last token, but for the first
  of its votes.
"""

import itertools
import time
from collections.abc import Callable
from functools import partial
from statistics import fmean
from typing import Any

from actors.generator import Request
from actors.vllm_engine import VllmEngine
from grm import tiny_world
from launch.judging.vote_plan import VotePlan, vote_plan
from launch.setup.prompt_source import prompt_template
from launch.setup.tokenizer import Tokenizer
from tests.bench.figures import VOTES
from tests.bench.rollout import Prompts, config_of
from tests.bench.side_by_side import Measured, main, turns

BLOCK = 32  # tokens of a block of vLLM's cache on CPUs


class CountingEngine(VllmEngine):
    """Counts what each request reads from the prefix cache. (A private place of vLLM 0.32: its scheduler's lookup.)"""

    def _build(self) -> None:
        super()._build()
        self.cached: dict[str, tuple[int, int]] = {}  # by request: tokens read from the cache, tokens of the prompt
        manager = self._core.scheduler.kv_cache_manager
        lookup = manager.get_computed_blocks

        def counted(request: Any) -> Any:
            found = lookup(request)
            # a request that was preempted and comes again is counted as it first came
            self.cached.setdefault(request.request_id, (found[1], request.num_prompt_tokens))
            return found

        manager.get_computed_blocks = counted


def ask(plan: VotePlan, tokenizer: Tokenizer, preferences: int, seed: int) -> list[Request]:
    """Return the engine's requests for the votes on that many new preferences."""
    asked = [
        each.request for p in tiny_world.preferences(seed, preferences, 2, held_out=True) for each in plan.votes(p.question)
    ]
    return [
        Request(
            token_ids=tokenizer.encode(request.message),
            samples=request.samples,
            temperature=request.temperature,
            max_new_tokens=request.max_new_tokens,
            seed=request.seed,
        )
        for request in asked
    ]


def verdicts(engine: CountingEngine, requests: list[Request]) -> dict[str, float]:
    """Return votes/s, tokens computed a vote, and the share of prompt tokens from the cache."""
    engine.cached.clear()
    began = time.perf_counter()
    completions = [c for future in engine.submit(requests) for c in future.result(timeout=300)]
    seconds = time.perf_counter() - began
    cached, prompts = (sum(column) for column in zip(*engine.cached.values(), strict=True))
    sampled = fmean(len(c.token_ids) for c in completions)
    return {
        "rate": len(completions) / seconds,
        "tokens": (prompts - cached) / len(completions) + sampled,
        "reuse": cached / prompts,
    }


def reusable(requests: list[Request]) -> float:
    """Return the largest share of prompt tokens that a cache of whole blocks can give.

    >>> each = dict(samples=4, temperature=1.0, max_new_tokens=1)
    >>> reusable([Request(token_ids=(5,) * 64, **each), Request(token_ids=(6,) * 96, **each)])
    0.45
    """
    whole = sum((len(request.token_ids) - 1) // BLOCK * BLOCK * (request.samples - 1) for request in requests)
    return whole / sum(len(request.token_ids) * request.samples for request in requests)


def measure(quick: bool) -> list[Measured]:
    config = config_of("tiny", 8, 32)
    prompts, seeds = Prompts(config), itertools.count(100)
    engine = CountingEngine(prompts.settings(config))
    chosen, votes = (VOTES[:2], 16) if quick else (VOTES, 512)

    def run(k: int) -> dict[str, float]:
        plan = vote_plan(config, prompt_template(config), k)
        requests = ask(plan, prompts.tokenizer, max(1, votes // k), next(seeds))
        return verdicts(engine, requests) | {"reusable": reusable(requests)}

    contenders: dict[str, Callable[[], dict[str, float]]] = {str(k): partial(run, k) for k in chosen}
    values = turns(2 if quick else 5, contenders)
    engine.close()
    found = list[Measured]()
    for k in chosen:
        rates, alone = (tuple(each["rate"] for each in values[str(of)]) for of in (k, 1))
        against = alone if k > 1 else ()
        found.append(Measured(figure=f"judging {k} verdicts", unit="votes/s", ours=rates, against=against))
        found.append(
            Measured(figure=f"judging {k} tokens", unit="tokens", ours=tuple(each["tokens"] for each in values[str(k)]))
        )
    if "32" in values:
        reuse, possible = (tuple(each[name] for each in values["32"]) for name in ("reuse", "reusable"))
        found.append(Measured(figure="judging 32 reuse", unit="share", ours=reuse))
        found.append(Measured(figure="judging 32 blocks", unit="share", ours=reuse, against=possible))
    return found


if __name__ == "__main__":
    main(measure, __doc__)
