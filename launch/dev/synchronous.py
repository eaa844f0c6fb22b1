"""The online RL of this project as a plain synchronous loop: one process samples, one trains, and each waits for the other.

One iteration makes policy version v + 1 out of version v:

    1. Sample.     For the next preferences of the data, shuffle the responses, and sample G judgements from the policy: half
                   of them with the responses in one order, half in the other (`rollout.orders`).
    2. Reward.     Parse each judgement's scores and compare them with the label: +1 if the labelled response is strictly
                   the best, else -1; a judgement that does not parse, or was cut short, is wrong.
    3. Filter.     A group whose rewards are all equal has no policy gradient. Sample others until B groups have one
                   (`grpo.filter`).
    4. Advantage.  Within each group, whatever order was read, A_i = (r_i - mean r) / std r. Who always prefers the second
                   response is right half of the time, and gains nothing.
    5. Step.       One optimiser step on the GRPO loss: minus ratio times advantage, plus beta times KL(policy, reference). The
                   loss itself is close to 0, since advantages sum to 0 and all ratios are 1; its gradient is not.
    6. Publish.    Load the new weights into the sampling engine.

The distributed system (launch/run.py) computes the same, and differs in this:

    - The three roles run at the same time: rollout actors (1), a reward actor (2), and the GRPO learner (3 to 6), with a
      Redis stream between any two. The driver issues the prompts. Only the reward actor joins labels to rollouts.
    - The driver issues up to (eta + 1) * B groups before they are trained, so a group is trained at most
      eta = grpo.max_staleness versions after its issue. New weights are loaded between two decode steps, hence the tokens
      of one completion may come from several versions. Importance weights, truncated at a cap, correct for both.
    - At eta = 0 nothing overlaps, and with one worker the losses are those of this loop to the last bit (a test compares them).
    - A process may die at any time: streams, ledger and checkpoints let its replacement continue.
    - A run also does a cold start before, trains a meta-RM beside, and evaluates and votes after this loop.

Steps 1 to 3 are `Sampler`. Steps 4 and 5 are `PolicyUpdate` of learner/policy_update.py, the distributed learner's very code.
"""

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import fmean

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # so that `python launch/dev/synchronous.py` finds the packages
os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by torch at import

from actors.generator import Request
from actors.vllm_engine import VllmEngine
from buffer.ledger import Cursor
from buffer.messages import Completion, ExperienceGroup
from configs.load import ConfigError
from configs.load import load as load_config
from configs.schema import Config
from grm.judgement import Judgement, parse_training, unshuffle
from grm.rewards import rule_reward
from grm.sources import load as load_preferences
from launch.setup.engine_settings import engine_settings
from launch.setup.model_files import resolve
from launch.setup.preflight import policy_tokenizer
from launch.setup.prompt_source import Draft, prompt_source, sampling_seed
from learner.adapters import planned_shape


@dataclass(frozen=True, kw_only=True, slots=True)
class Iteration:
    """What one iteration of the loop came to."""

    version: int
    """Policy version after it."""
    mean_reward: float
    """Over all judgements that were sampled, -1..1."""
    loss: float
    """Of the whole batch, before the step."""


def iterations(overrides: Sequence[str]) -> Iterator[Iteration]:
    """Run the loop for `grpo.steps` versions of the preset `tiny`.

    Args:
        overrides: `section.key=value` over the preset.
    """
    config = load_config("tiny", overrides)
    if config.grpo.reward:
        raise ConfigError("grpo.reward: this loop is the paper's, with its rule; leave it out")
    sampler = Sampler(config)
    with learner_process(overrides) as learner:
        for version in range(config.grpo.steps):
            batch, rewards = sampler.batch(version)
            learner.send(batch)
            loss, weights = learner.recv()
            sampler.engine.load(weights)
            yield Iteration(version=version + 1, mean_reward=fmean(rewards), loss=loss)


# ---- steps 1 to 3: sample, reward, filter ------------------------------------------------------------------------


class Sampler:
    """The policy in vLLM, the prompts and the labels."""

    def __init__(self, config: Config) -> None:
        model = resolve(config.model.path)
        preferences = [p for name in config.data.train for p in load_preferences(name).preferences]
        self._config = config
        self._labels = {preference.question.id: preference.label for preference in preferences}
        tokenizer = policy_tokenizer(config, model)
        self._prompts = prompt_source(config, [preference.question for preference in preferences], tokenizer)
        self._cursor = Cursor()  # position in the data
        adapters = planned_shape(model, config.learner.lora_rank)
        self.engine = VllmEngine(engine_settings(config, model=model, number=0, tokenizer=tokenizer, adapters=adapters))

    def batch(self, version: int) -> tuple[list[ExperienceGroup], list[float]]:
        """Returns B groups (with a gradient, if `grpo.filter`), and the rewards of all judgements sampled for them."""
        batch: list[ExperienceGroup] = []
        rewards: list[float] = []
        while len(batch) < self._config.grpo.batch_groups:
            for group in self._groups(self._config.grpo.batch_groups - len(batch), version):
                rewards += group.rewards
                batch += [group] if group.informative or not self._config.grpo.filter else []
        return batch, rewards

    def _groups(self, count: int, version: int) -> list[ExperienceGroup]:
        """Sample and reward the next `count` groups of the data."""
        drafts = self._prompts.take(self._cursor, count)
        self._cursor = drafts[-1][1]
        numbers = [after.group - 1 for _, after in drafts]
        prompts = [draft for draft, _ in drafts]
        samples = self._sample(numbers, prompts)
        return [
            self._group(number, draft, completions, version)
            for number, draft, completions in zip(numbers, prompts, samples, strict=True)
        ]

    def _sample(self, numbers: Sequence[int], drafts: Sequence[Draft]) -> list[tuple[Completion, ...]]:
        """Sample G judgements of each preference; a group's seeds, one a judgement, depend on its number alone."""
        rollout = self._config.rollout
        requests = []
        for number, draft in zip(numbers, drafts, strict=True):
            seed = sampling_seed(f"group/{self._config.run.seed}/{number}")
            for view in draft.views:
                requests.append(
                    Request(
                        token_ids=view.token_ids,
                        samples=view.samples,
                        temperature=rollout.temperature,
                        max_new_tokens=rollout.max_new_tokens,
                        seed=seed,
                    )
                )
                seed += view.samples
        sampled = (future.result() for future in self.engine.submit(requests))
        return [tuple(completion for _ in draft.views for completion in next(sampled)) for draft in drafts]

    def _group(self, number: int, draft: Draft, completions: Sequence[Completion], version: int) -> ExperienceGroup:
        orders = [view.permutation for view in draft.views for _ in range(view.samples)]
        return ExperienceGroup(
            group=number,
            preference=draft.preference,
            issued_at=version,
            responses=len(orders[0]),
            prompt_ids=tuple(view.token_ids for view in draft.views),
            samples=tuple(view.samples for view in draft.views),
            completion_ids=tuple(completion.token_ids for completion in completions),
            logprobs=tuple(completion.logprobs for completion in completions),
            versions=tuple(completion.versions for completion in completions),
            failures=("",) * len(completions),
            truncated=tuple(completion.finish == "length" for completion in completions),
            rewards=tuple(
                self._reward(draft.preference, order, completion) for order, completion in zip(orders, completions, strict=True)
            ),
            picks=(None,) * len(completions),
            places=(None,) * len(completions),
        )

    def _reward(self, preference: str, order: tuple[int, ...], completion: Completion) -> float:
        """Apply the rule to the scores, in the preference's own order."""
        n = len(order)
        parsed = parse_training(completion.text, n, cut_short=completion.finish == "length")
        scores = unshuffle(parsed.scores, order) if isinstance(parsed, Judgement) else None
        return rule_reward(scores, self._labels[preference], n)


# ---- steps 4 to 6: advantage, step, publish ----------------------------------------------------------------------


@contextmanager
def learner_process(overrides: Sequence[str]) -> Iterator[Connection]:
    """Start the learner in a process of its own, because vLLM and DeepSpeed cannot share one.

    Yields:
        A connection that takes a batch, and gives its loss and the new weights.
    """
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=learn, args=(theirs, overrides), daemon=True)
    process.start()
    theirs.close()  # a learner that fails then ends `recv` with EOFError
    try:
        yield ours
    finally:
        process.kill()
        process.join()


def learn(pipe: Connection, overrides: Sequence[str]) -> None:
    """Receive a batch, take one optimiser step on it, send its loss and the new weights; until killed."""
    from learner.policy_update import PolicyUpdate
    from learner.policy_weights import policy_weights
    from learner.ranks import Ranks

    config = load_config("tiny", overrides)
    ranks = Ranks(rank=0, world=1, host="127.0.0.1", port=0, device="cpu", timeout_s=60)
    update = PolicyUpdate(config, ranks, resolve(config.model.path))
    weights, version = policy_weights(config.learner.lora_rank), 0
    while True:
        loss, _ = update.apply(pipe.recv())
        version += 1
        model = update.engine.module.model
        state = weights.gather(update.engine, model)
        pipe.send((loss, weights.to_published(version, state, model, incarnation=0, probe=None)))


# ---- command line ------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, help="policy versions to make; by default those of the preset")
    parser.add_argument("--json", action="store_true", help="print the losses alone: one JSON list of exact hex floats")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="over the preset `tiny`")
    arguments = parser.parse_args()
    overrides = [*arguments.overrides, *([f"grpo.steps={arguments.steps}"] if arguments.steps is not None else [])]
    losses = []
    for iteration in iterations(overrides):
        losses.append(iteration.loss.hex())
        if not arguments.json:
            reward, loss = f"{iteration.mean_reward:+.3f}", f"{iteration.loss:+.2e}"
            print(f"version {iteration.version}: mean reward {reward}, loss {loss}", flush=True)
    if arguments.json:
        print(json.dumps(losses))


if __name__ == "__main__":
    main()
