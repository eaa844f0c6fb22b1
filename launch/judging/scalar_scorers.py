"""A scalar reward model of a folder or the hub: a sequence classifier with one label, on the scorers that a meta-RM has.

chats ─▶ token ids, as the model's own template writes a whole chat ─ by query, which is computed once ─▶ [ MetaScorer ×GPUs ]
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from configs.load import ConfigError
from configs.schema import Config
from launch.judging.meta_scores import scored
from launch.judging.protocol import NotJudged
from launch.judging.scalar_scores import Chat, Score
from launch.setup.context_limit import check_context
from launch.setup.hub import cached_folder
from launch.setup.model_files import architecture, is_classifier
from launch.setup.model_integrity import check_model_folder
from launch.setup.tokenizer import Tokenizer
from learner import checkpoint
from learner.prompt_groups import PromptGroup

CHATS = 256  # of one call, about


def checked_scalar(config: Config, model: str) -> Tokenizer:
    """Return the tokenizer of a scalar reward model, a folder or hub name. ConfigError where it cannot score."""
    if (Path(model).parent / checkpoint.RECORD).is_file() and is_classifier(architecture(model)):
        raise ConfigError(f"{model}: is the meta-RM of a run, which scores judgements; name it as --meta-rm, beside its judge")
    require_one_label(model, architecture(model))
    check_model_folder(model, trained=True)  # the scorer reads it as the learners do
    tokenizer = Tokenizer(model)
    folder = model if Path(model).is_dir() else cached_folder(model)  # of a hub model, config.json came with the tokenizer
    arch = architecture(str(folder)) if folder else None
    require_one_label(model, arch)
    check_context(config, arch)
    if not tokenizer.takes_answers(1):
        raise ConfigError(f"--model {model}: its chat template takes no answer, and answers are what it scores")
    return tokenizer


def require_one_label(model: str, arch: Mapping[str, object] | None) -> None:
    """ConfigError when a model's config.json is not that of a sequence classifier with one label; None: it is not known."""
    if arch is None:
        return
    kinds, labels = arch.get("architectures"), arch.get("id2label")
    if not is_classifier(arch):
        named = ", ".join(map(str, kinds)) if isinstance(kinds, list) else "model of no known kind"
        raise ConfigError(f"--scalar: {model} is a {named}; give a sequence classifier, or leave --scalar out")
    count = arch.get("num_labels", len(labels) if isinstance(labels, Mapping) else 2)  # 2: transformers' default
    if count != 1:
        raise ConfigError(f"--model {model}: it has {count} labels; a scalar reward model has one")


class ScalarScorers:
    """A `ScalarModel` over scorer actors."""

    def __init__(self, config: Config, *, scorers: Sequence[Any], tokenizer: Tokenizer) -> None:
        """Asks nothing yet.

        Args:
            config: The evaluation's.
            scorers: `MetaScorer` actors with the model (`start_scorers`).
            tokenizer: The model's.
        """
        self._limit, self._judge_s = config.model.context, config.waits.judge_s
        self._scorers, self._tokenizer = scorers, tokenizer

    def score(self, chats: Sequence[Chat]) -> list[Score | NotJudged]:
        """Returns a score for each chat; one that does not fit in `model.context` has none. TimeoutError when no scorer answers
        within `waits.judge_s`."""
        ids = [chat_ids(self._tokenizer, chat) for chat in chats]
        found: list[Score | NotJudged] = [too_long(len(each), self._limit) for each in ids]
        by_query: dict[Chat, list[int]] = {}
        for place, chat in enumerate(chats):
            if len(ids[place]) <= self._limit:
                by_query.setdefault(chat[:-1], []).append(place)
        asked = ((places, [grouped([ids[i] for i in own]) for own in places]) for places in _shards(list(by_query.values())))
        for places, logits in scored(self._scorers, asked, timeout_s=self._judge_s, what="the scalar reward model to score"):
            for own, values in zip(places, logits, strict=True):
                for place, value in zip(own, values, strict=True):
                    found[place] = Score(value=value)
        return found


def chat_ids(tokenizer: Tokenizer, chat: Chat) -> tuple[int, ...]:
    """Return the token ids of a chat. Where the format takes one answer alone, earlier turns are part of the message."""
    if tokenizer.takes_answers(len(chat) // 2):
        return tokenizer.chat(chat)
    *before, answer = chat
    names = ("User", "Assistant") * len(before)
    return tokenizer.chat(("\n\n".join(f"{name}: {text}" for name, text in zip(names, before, strict=False)), answer))


def grouped(ids: Sequence[tuple[int, ...]]) -> PromptGroup:
    """Return chats of one query as a prompt, which all begin with, and what follows it in each.

    >>> grouped([(1, 2, 3, 9), (1, 2, 4)])
    ((1, 2), [(3, 9), (4,)])
    """
    columns = zip(*(each[:-1] for each in ids), strict=False)  # a last token is never shared: it is what is read
    shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    return ids[0][:shared], [each[shared:] for each in ids]


def too_long(tokens: int, limit: int) -> NotJudged:
    """Return the error of a chat that does not fit."""
    return NotJudged(f"query and response have {tokens} tokens, model.context is {limit}; raise model.context")


def _shards(places: Sequence[list[int]]) -> Iterator[list[list[int]]]:
    """Yields the chats of one call, by query: CHATS or a few more."""
    shard: list[list[int]] = []
    for own in places:
        shard.append(own)
        if sum(map(len, shard)) >= CHATS:
            yield shard
            shard = []
    if shard:
        yield shard
