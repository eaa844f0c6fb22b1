"""The prompts of a run as a pure function of the seed and the position: what the driver issues, and what evaluation asks.

    (epoch, index) ─▶ (preference, permutation) ─▶ text ─▶ token ids

Only `Question`s enter: no label is in reach (I6). The position is the ledger's data cursor (I7), so a resumed run goes
on with the very prompt that would have come next.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from buffer.ledger import Cursor
from configs.load import ConfigError
from configs.schema import Config
from grm.judgement import ScoreRange
from grm.preferences import Question
from grm.prompts import Template, load_template, render, shuffled, template
from launch.setup.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """A prompt before it is issued. `permutation[shown position]` = index in the preference's own order."""

    preference: str
    permutation: tuple[int, ...]
    token_ids: tuple[int, ...]


def sampling_seed(name: str) -> int:
    """A seed for vLLM, 0 <= seed < 2^31, from what the samples are to depend on."""
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

    def take(self, cursor: Cursor, count: int) -> list[tuple[Draft, Cursor]]:
        """The next `count` prompts from the cursor on, each with the cursor that follows it. A prompt over
        `max_tokens` is passed over, whole, and counted: text is never cut."""
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
        return taken

    def at(self, epoch: int, index: int) -> Draft | None:
        """The prompt at a position of an epoch, or None when it is too long."""
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
        """Evaluation prompts: the first `limit` that fit, in order; permutations depend on the seed alone, so every
        evaluation of a run asks the same."""
        drafts = (self.draft(index, f"heldout/{self._seed}/{index}") for index in range(len(self._questions)))
        return [draft for draft in drafts if draft is not None][:limit]

    def too_long(self) -> int:
        """How many questions do not fit (a permutation does not change what is shown, only its order)."""
        return sum(self.draft(index, "length") is None for index in range(len(self._questions)))

    def draft(self, index: int, salt: str, *, scale: ScoreRange | None = None, best: int | None = None) -> Draft | None:
        """The prompt of one question, responses shuffled by the salt; None when it is too long.

        scale: as in `render`. best (hinted sampling of the cold start only, I6): the label, which the prompt then tells.
        """
        question = self._questions[index]
        permutation = shuffled(len(question.responses), random.Random(salt))
        hint = best if best is None or len(permutation) == 1 else permutation.index(best)
        message = render(
            question,
            permutation,
            self._template,
            hint=hint,
            score_range=scale,
            escape_special_tokens=self._tokenizer.escape_special_tokens,
        )
        token_ids = self._tokenizer.encode(message)
        if len(token_ids) > self._max_tokens:
            return None
        return Draft(preference=question.id, permutation=permutation, token_ids=token_ids)


def prompt_template(config: Config) -> Template:
    """The prompt template that the config names."""
    if config.prompts.template_path:
        return load_template(config.prompts.template_path)
    return template(config.prompts.style, principles=config.prompts.principles)


def prompt_source(config: Config, questions: Sequence[Question], tokenizer: Tokenizer) -> PromptSource:
    return PromptSource(
        questions,
        tokenizer=tokenizer,
        template=prompt_template(config),
        seed=config.run.seed,
        max_tokens=config.max_prompt_tokens,
    )
