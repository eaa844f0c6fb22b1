"""GRPO as a plain synchronous loop: no streams, no actors, no driver. What eta = 0 must equal, bit by bit.

python launch/dev/synchronous.py [section.key=value ...]        prints one JSON list of losses, as exact hex floats
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def main(overrides: list[str]) -> list[float]:
    from actors.vllm_engine import Request, VllmEngine, VllmSettings
    from buffer.ledger import Cursor
    from buffer.messages import ExperienceGroup
    from configs.load import load as load_config
    from grm.judgement import Judgement, parse, training_scale, unshuffle
    from grm.rewards import rule_reward
    from grm.sources import load
    from launch.setup.model_files import resolve
    from launch.setup.prompt_source import prompt_source, sampling_seed
    from launch.setup.tokenizer import Tokenizer

    config = load_config("tiny", overrides)
    model, rollout = resolve(config.model.path), config.rollout
    preferences = {p.question.id: p for name in config.data.train for p in load(name).preferences}
    prompts = prompt_source(config, [p.question for p in preferences.values()], Tokenizer(model))
    engine = VllmEngine(
        VllmSettings(
            model_path=model,
            dtype=config.dtype,
            context=config.model.context,
            sequences=rollout.max_groups * rollout.samples,
            kv_cache_bytes=rollout.kv_cache_mb << 20,
            gpu_memory=rollout.gpu_memory,
            seed=config.run.seed * 1009,
            device="cpu",
        )
    )
    here, there = multiprocessing.get_context("spawn").Pipe()
    update = multiprocessing.get_context("spawn").Process(target=learn, args=(there, overrides), daemon=True)
    update.start()

    def reward(name: str, permutation: tuple[int, ...], text: str) -> float:
        n, scale = len(permutation), training_scale(len(permutation))
        read = parse(text, n, low=scale.low, high=scale.high)
        scores = unshuffle(read.scores, permutation) if isinstance(read, Judgement) else None
        return rule_reward(scores, preferences[name].label, n)

    losses, cursor = [], Cursor()
    for version in range(config.grpo.steps):
        batch: list[ExperienceGroup] = []
        while len(batch) < config.grpo.batch_groups:
            drafts = prompts.take(cursor, config.grpo.batch_groups - len(batch))
            cursor = drafts[-1][1]
            asked = [
                Request(
                    token_ids=draft.token_ids,
                    samples=rollout.samples,
                    temperature=rollout.temperature,
                    max_new_tokens=rollout.max_new_tokens,
                    seed=sampling_seed(f"group/{config.run.seed}/{after.group - 1}"),
                )
                for draft, after in drafts
            ]
            for (draft, after), future in zip(drafts, engine.submit(asked), strict=True):
                completions = future.result()
                group = ExperienceGroup(
                    group=after.group - 1,
                    preference=draft.preference,
                    issued_at=version,
                    prompt_ids=draft.token_ids,
                    completion_ids=tuple(c.token_ids for c in completions),
                    logprobs=tuple(c.logprobs for c in completions),
                    versions=tuple(c.versions for c in completions),
                    failures=("",) * len(completions),
                    truncated=tuple(c.finish == "length" for c in completions),
                    rewards=tuple(reward(draft.preference, draft.permutation, c.text) for c in completions),
                )
                batch += [group] if group.informative else []
        here.send(batch)
        loss, weights = here.recv()
        losses.append(loss)
        engine.load(weights)
    update.kill()
    return losses


def learn(pipe: Connection, overrides: list[str]) -> None:
    """The other process: batch in, loss and new weights out (vLLM and DeepSpeed do not share a process)."""
    from configs.load import load
    from launch.setup.model_files import resolve
    from learner.grpo import PolicyUpdate
    from learner.ranks import Ranks
    from learner.weight_export import to_published_weights

    config = load("tiny", overrides)
    ranks = Ranks(rank=0, world=1, host="127.0.0.1", port=0, device="cpu", timeout_s=60)
    update = PolicyUpdate(config, ranks, resolve(config.model.path))
    for version in range(1, config.grpo.steps + 1):
        loss, _ = update.apply(pipe.recv())
        weights = to_published_weights(version, update.engine.full_state(update.engine.module.model))
        pipe.send((loss, weights))
    pipe.recv()  # stay until killed, so that the last message is read


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print(json.dumps([loss.hex() for loss in main(sys.argv[1:])]))
