"""The prompts of a run as a pure function of the seed and the position, for training and for evaluation.

    (epoch, index) ─▶ (preference, permutation) ─▶ text ─▶ token ids

Only `Question`s enter: no label is in reach (I6). The position is the ledger's data cursor (I7), so a resumed run goes
on with the prompt that would have come next. A prompt is rendered and tokenized when it is due, never before.
"""

import hashlib
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from buffer.ledger import Cursor
from configs.load import ConfigError
from configs.paths import expanded
from configs.schema import Config
from grm.judgement import ScoreRange
from grm.preferences import Question
from grm.prompts import Template, load_template, render, shuffled, template
from launch.setup.tokenizer import Tokenizer

SEEDS = 1 << 31  # a seed for vLLM or for a served model is below this, whatever `run.seed` is


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """A prompt before it is issued."""

    preference: str
    """Id of the preference."""
    permutation: tuple[int, ...]
    """`permutation[shown position]` is the index in the preference's own order of responses."""
    token_ids: tuple[int, ...]
    """The prompt, up to where the completion begins."""


def sampling_seed(name: str) -> int:
    """Returns a seed for vLLM, 0 <= seed < SEEDS, from the name of what the samples shall depend on."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") >> 1


class PromptSource:
    """Training prompts by position: each epoch is a fresh order, each visit a fresh permutation of the responses."""

    def __init__(
        self, questions: Iterable[Question], *, tokenizer: Tokenizer, template: Template, seed: int, max_tokens: int
    ) -> None:
        self._questions = list(questions)
        self._tokenizer = tokenizer
        self._template = template
        self._seed = seed
        self._max_tokens = max_tokens
        self._order: tuple[int, list[int]] = (-1, [])
        self.skipped: int | None = None  # prompts that the last cursor given out counts as too long; None before `take`

    def take(self, cursor: Cursor, count: int) -> list[tuple[Draft, Cursor]]:
        """Returns the next `count` prompts from the cursor on, each with the cursor that follows it.

        A prompt over `max_tokens` is passed over, whole, and counted by the cursor: text is never cut. ConfigError when no
        prompt fits.
        """
        taken: list[tuple[Draft, Cursor]] = []
        misses = 0
        while len(taken) < count:
            draft = self.at(cursor.epoch, cursor.index)
            cursor = self._after(cursor, issued=draft is not None)
            if draft is not None:
                taken.append((draft, cursor))
                misses = 0
            elif (misses := misses + 1) > len(self._questions):
                raise ConfigError(f"no training prompt fits in {self._max_tokens} tokens; raise model.context")
        self.skipped = cursor.skipped
        return taken

    def at(self, epoch: int, index: int) -> Draft | None:
        """Returns the prompt at a position of an epoch, or None when it is too long."""
        if self._order[0] != epoch:
            order = list(range(len(self._questions)))
            random.Random(f"order/{self._seed}/{epoch}").shuffle(order)
            self._order = (epoch, order)
        return self.draft(self._order[1][index], f"permutation/{self._seed}/{epoch}/{index}")

    def _after(self, cursor: Cursor, *, issued: bool) -> Cursor:
        wraps = cursor.index + 1 == len(self._questions)
        return Cursor(
            group=cursor.group + issued,
            epoch=cursor.epoch + wraps,
            index=0 if wraps else cursor.index + 1,
            skipped=cursor.skipped + (not issued),
        )

    def heldout(self, limit: int) -> list[Draft]:
        """Returns the evaluation prompts: the first `limit` that fit, in order. Permutations depend on the seed alone, so all
        evaluations of a run use the same prompts."""
        drafts = (self.draft(index, f"heldout/{self._seed}/{index}") for index in range(len(self._questions)))
        return list(islice((draft for draft in drafts if draft is not None), limit))

    def check_sample(self, size: int) -> tuple[int, int]:
        """Look at the first `size` prompts of the first epoch. Returns how many of them are too long, and how many there are.
        ConfigError when no prompt at all fits, which takes a look at every one."""
        looked_at = min(size, len(self._questions))
        too_long = sum(self.at(0, index) is None for index in range(looked_at))
        if too_long == looked_at:
            self.take(Cursor(index=looked_at % len(self._questions)), 1)
            self.skipped = None  # nothing is issued yet
        return too_long, looked_at

    def draft(self, index: int, salt: str, *, scale: ScoreRange | None = None, best: int | None = None) -> Draft | None:
        """Returns the prompt of one question, or None when it is too long.

        Args:
            index: Which question.
            salt: Seed of the permutation of the responses.
            scale: As in `render`.
            best: The label, which the prompt then names; for hinted sampling in the cold start only (I6).
        """
        question = self._questions[index]
        return self.shown(index, shuffled(len(question.responses), random.Random(salt)), scale=scale, best=best)

    def shown(
        self, index: int, permutation: tuple[int, ...], *, scale: ScoreRange | None = None, best: int | None = None
    ) -> Draft | None:
        """Returns the prompt of one question in a given order of its responses; otherwise as `draft`."""
        token_ids = self._tokenizer.encode(
            self.message(index, permutation, self._tokenizer.escape_special_tokens, scale=scale, best=best)
        )
        if len(token_ids) > self._max_tokens:
            return None
        return Draft(preference=self._questions[index].id, permutation=permutation, token_ids=token_ids)

    def message(
        self,
        index: int,
        permutation: tuple[int, ...],
        escape_special_tokens: Callable[[str], str],
        *,
        scale: ScoreRange | None = None,
        best: int | None = None,
    ) -> str:
        """Returns the text of that prompt, for whichever tokenizer the escape is of. Arguments as of `draft` and `render`."""
        return render(
            self._questions[index],
            permutation,
            self._template,
            hint=best if best is None or len(permutation) == 1 else permutation.index(best),
            score_range=scale,
            escape_special_tokens=escape_special_tokens,
        )


def prompt_template(config: Config) -> Template:
    """Returns the prompt template that the config names."""
    if config.prompts.template_path:
        return load_template(expanded(config.prompts.template_path))
    return template(config.prompts.style, principles=config.prompts.principles)


def prompt_source(config: Config, questions: Sequence[Question], tokenizer: Tokenizer) -> PromptSource:
    """Returns the prompts of these questions under the config's template, seed and context."""
    return PromptSource(
        questions,
        tokenizer=tokenizer,
        template=prompt_template(config),
        seed=config.run.seed,
        max_tokens=config.max_prompt_tokens,
    )
