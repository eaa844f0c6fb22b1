"""An ablation on the tiny world: a policy that is told the best response teaches itself, which is not, token by token.

    hinted       what the cold start does: sample under the hint, reject what is wrong, imitate the rest under the plain prompt
    distilled    sample under the plain prompt, reject nothing, and at each token go towards the distribution that the policy's
                 start has there under the hint: the loss is KL(policy || start that is told), over the whole vocabulary

The second is on-policy self-distillation (OPSD, siyan-zhao.github.io/blog/2026/opsd): a dense signal that needs no verdict.
Both begin with the same base, on the same preferences, in steps of as many completions. What is printed is the accuracy of
greedy judgements of held-out pairs in both orders.

    python launch/dev/hint_distillation.py --seed 0                 both, one after the other
    python launch/dev/hint_distillation.py --arm distilled --lr 2e-4
"""

import argparse
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # so that it finds the packages when it runs as a file

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import GenerationConfig

from configs.load import load as load_config
from configs.schema import Config
from grm.judgement import Judgement, parse_training, unshuffle
from grm.preferences import Preference
from grm.rejection import hinted_verdicts, is_kept
from grm.rewards import rule_reward
from grm.sources import load as load_preferences
from grm.voting import Scores, credit
from launch.setup.model_files import resolve
from launch.setup.preflight import policy_tokenizer
from launch.setup.prompt_source import prompt_source
from launch.setup.tokenizer import Tokenizer
from learner.generation import GreedyRequest, complete, ended
from learner.models import dense_attention, load_policy

Ids = tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """A preference in one order, with and without the hint."""

    preference: Preference
    """Query, responses and label."""
    permutation: tuple[int, ...]
    """permutation[shown place] = index of the response."""
    plain: Ids
    """The prompt."""
    hinted: Ids
    """The same with the hint."""


class Ablation:
    """The tiny base, its prompts, and how it is sampled and measured."""

    def __init__(self, config: Config) -> None:
        """Load the base and the data of a config."""
        self.config, self.model_path = config, resolve(config.model.path)
        self.tokenizer: Tokenizer = policy_tokenizer(config, self.model_path)
        self._ends = [self.tokenizer.end_token, *self.tokenizer.other_ends]
        training = [p for name in config.data.train for p in load_preferences(name).preferences]
        self.heldout = [p for name in config.data.heldout for p in load_preferences(name).preferences]
        drawn = random.Random(f"told/{config.run.seed}").sample(training, config.cold_start.preferences)
        self.told = list(self._told(drawn))

    def _told(self, preferences: Sequence[Preference]) -> Iterator[Told]:
        prompts = prompt_source(self.config, [p.question for p in preferences], self.tokenizer)
        for index, preference in enumerate(preferences):
            salt = f"told/{self.config.run.seed}/{preference.question.id}"
            plain, hinted = prompts.draft(index, salt), prompts.draft(index, salt, best=preference.label)
            if plain and hinted:
                (view,), (hint,) = plain.views, hinted.views
                yield Told(preference=preference, permutation=view.permutation, plain=view.token_ids, hinted=hint.token_ids)

    def base(self) -> Any:
        """Return the base anew."""
        return load_policy(self.model_path, "float32", "cpu").eval()

    def sample(self, model: Any, prompts: Sequence[Ids]) -> list[Ids]:
        """Return a completion of each prompt, sampled at the rollouts' temperature."""
        width, pad = max(map(len, prompts)), self.tokenizer.end_token
        ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        model.generation_config = GenerationConfig()
        settings = GenerationConfig(
            do_sample=True,
            temperature=self.config.rollout.temperature,
            top_k=0,
            top_p=1.0,
            max_new_tokens=self.config.rollout.max_new_tokens,
            eos_token_id=self._ends,
            pad_token_id=pad,
        )
        with torch.no_grad(), dense_attention(model):
            written = model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
        return [ended(row, self._ends) for row in written[:, width:].tolist()]

    def scores(self, completion: Ids, permutation: tuple[int, ...]) -> Scores | None:
        """Return the scores in the preference's own order; None where training's parser refuses them."""
        cut_short = not completion or completion[-1] not in self._ends
        read = parse_training(self.tokenizer.decode(completion), len(permutation), cut_short=cut_short)
        return unshuffle(read.scores, permutation) if isinstance(read, Judgement) else None

    def accuracy(self, model: Any) -> float:
        """Return the accuracy of greedy judgements of the held-out preferences in both orders; ties are split."""
        prompts = prompt_source(self.config, [p.question for p in self.heldout], self.tokenizer)
        asked: list[tuple[Preference, tuple[int, ...], Ids]] = []
        for index, preference in enumerate(self.heldout):
            order = tuple(range(len(preference.question.responses)))
            draft = prompts.shown(index, {order: 1, order[::-1]: 1})
            asked += [(preference, view.permutation, view.token_ids) for view in draft.views] if draft else []
        texts = [ids for _, _, ids in asked]
        request = GreedyRequest(prompts=tuple(texts), limit=self.config.rollout.max_new_tokens, end=self.tokenizer.end_token)
        written = complete(model, texts, request, rows=64, synced=False, device=torch.device("cpu"))
        return fmean(
            credit(self.scores(completion, permutation), preference.label).split
            for (preference, permutation, _), completion in zip(asked, written, strict=True)
        )


def completion_logits(model: Any, prompts: Sequence[Ids], completions: Sequence[Ids]) -> Tensor:
    """Return the logits behind which each completion token stands, [T, V], one completion after the other."""
    rows = [[*prompt, *completion] for prompt, completion in zip(prompts, completions, strict=True)]
    ids = torch.tensor([row + [0] * (max(map(len, rows)) - len(row)) for row in rows])  # behind the end: nobody sees it
    logits = model(input_ids=ids).logits
    parts = [
        logits[row, len(prompt) - 1 : len(prompt) + len(completion) - 1]
        for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True))
    ]
    return torch.cat(parts)


def divergence(policy: Tensor, teacher: Tensor) -> Tensor:
    """Return KL(policy || teacher) per token, [T], in nats, of logits [T, V]. The teacher gets no gradient."""
    new, told = F.log_softmax(policy, -1), F.log_softmax(teacher.detach(), -1)
    return (new.exp() * (new - told)).sum(-1)


def distilled(ablation: Ablation, model: Any) -> Callable[[Sequence[Told]], Tensor]:
    """Return the loss of a step of self-distillation."""
    start = ablation.base()

    def loss(batch: Sequence[Told]) -> Tensor:
        completions = ablation.sample(model, [each.plain for each in batch])
        with torch.no_grad():
            teacher = completion_logits(start, [each.hinted for each in batch], completions)
        return divergence(completion_logits(model, [each.plain for each in batch], completions), teacher).mean()

    return loss


def hinted(ablation: Ablation, model: Any) -> Callable[[Sequence[Told]], Tensor]:
    """Return the loss of a step of imitating right hinted judgements: each preference's one, sampled from the base."""
    completions = ablation.sample(model, [each.hinted for each in ablation.told])
    kept: dict[str, Ids] = {}
    for each, completion in zip(ablation.told, completions, strict=True):
        n = len(each.permutation)
        reward = rule_reward(ablation.scores(completion, each.permutation), each.preference.label, n)
        if is_kept(hinted_verdicts([reward])[0]):
            kept[each.preference.question.id] = completion

    def loss(batch: Sequence[Told]) -> Tensor:
        right = [each for each in batch if each.preference.question.id in kept]
        targets = [kept[each.preference.question.id] for each in right]
        logits = completion_logits(model, [each.plain for each in right], targets)
        return F.cross_entropy(logits, torch.tensor([token for target in targets for token in target]))

    return loss


ARMS: dict[str, Callable[[Ablation, Any], Callable[[Sequence[Told]], Tensor]]] = {"hinted": hinted, "distilled": distilled}


def train(ablation: Ablation, arm: str, *, steps: int, lr: float, look: Callable[[int, Any], None], every: int) -> None:
    """Fine-tune the base for some steps of the arm; `look` gets the step and the model, every few steps."""
    torch.manual_seed(ablation.config.run.seed)
    model, batch = ablation.base(), ablation.config.cold_start.batch
    loss_of = ARMS[arm](ablation, model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    rng, queue = random.Random(f"steps/{ablation.config.run.seed}"), list[Told]()
    for step in range(1, steps + 1):
        if len(queue) < batch:
            queue += rng.sample(ablation.told, len(ablation.told))
        taken, queue = queue[:batch], queue[batch:]
        optimiser.zero_grad()
        loss_of(taken).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % every == 0:
            look(step, model)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arm", choices=(*ARMS, "both"), default="both")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--every", type=int, default=10, help="steps between two looks")
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="over the preset `tiny`")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ablation = Ablation(load_config("tiny", [f"run.seed={arguments.seed}", *arguments.overrides]))
    for arm in ARMS if arguments.arm == "both" else (arguments.arm,):

        def look(step: int, model: Any, arm: str = arm) -> None:
            print(f"{arm:9} step {step:3}: {ablation.accuracy(model):.1%} right", flush=True)

        train(ablation, arm, steps=arguments.steps, lr=arguments.lr, look=look, every=arguments.every)


if __name__ == "__main__":
    main()
