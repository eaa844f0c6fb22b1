"""Text in, token ids out: the policy's tokenizer and chat format, checked before anything starts."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from configs.load import ConfigError
from grm.judgement import Judgement, parse
from launch.setup.chat_frame import PLAIN, ChatFrame, Message, chat_frame

Loaded = TypeVar("Loaded")

SPELLED = "Scores: \\boxed{8, 2}"  # the one text that a judge must be able to write
# What chat templates write, by template and special tokens: a process forks for each of them once, and not while Ray runs in it
# (the meta-RM's is its policy's, or was looked at by the preflight of the evaluation).
_FRAMES: dict[tuple[str, str, bool], ChatFrame] = {}
MARKUP = set("<>[]|\uff5c")  # what the marks of a chat format are made of
OPENS_THOUGHT, ENDS_THOUGHT = "<think>", "</think>"


class Tokenizer:
    """The policy's tokenizer and chat format. Foreign text goes through `escape_special_tokens`, so none of it can become a
    special token."""

    def __init__(self, folder: str, *, thinking: bool = False) -> None:
        """Load the tokenizer of a folder or hub name.

        Args:
            folder: The model's.
            thinking: `enable_thinking` of the chat template, where that has such a switch.

        Raises:
            ConfigError: There is none, or no prompt can be made with it, or its ids are not those of the model.
        """
        from transformers import AutoConfig, AutoTokenizer

        config: Any = _load("config.json", folder, AutoConfig.from_pretrained)
        self._tokenizer: Any = _load("tokenizer", folder, partial(AutoTokenizer.from_pretrained, mistral_format=False))
        _require_own_files(folder, self._tokenizer)
        self._frame = self._chat_frame(thinking)
        self._start = self._ids_before(PLAIN) if self._frame is None else ()
        stops = _stops(folder, config, self._tokenizer)
        self._end = self._end_token(stops)
        self._other_ends = {stop: self._end for stop in stops if stop != self._end}
        added = self._tokenizer.added_tokens_decoder.values()
        self._special = sorted({token.content for token in added if self._is_mark(token)}, key=len, reverse=True)
        prompt = self.encode(PLAIN)
        self._require_beginning_and_end(prompt, stops)
        self._require_own_vocabulary(prompt, getattr(config.get_text_config(), "vocab_size", None))
        self._require_judgements()

    @property
    def end_token(self) -> int:
        """The token that ends a completion: the engine must stop there."""
        return self._end

    @property
    def other_ends(self) -> dict[int, int]:
        """{each other token at which the engine stops: `end_token`}, to read all completions at one and the same end."""
        return dict(self._other_ends)

    def ended(self, token_ids: Sequence[int]) -> tuple[int, ...]:
        """Returns a sampled completion as one that is learnt from text: with `end_token` where it ended in another."""
        return (*token_ids[:-1], *(self._other_ends.get(last, last) for last in token_ids[-1:]))

    def check_thinking(self, asked: bool) -> None:
        """ConfigError when the model cannot be asked to think, or thinks unasked: then its thoughts would be read as judgements
        where they are cut."""
        head = self._frame.after if self._frame is not None else ""
        opens = head.rfind(OPENS_THOUGHT) > head.rfind(ENDS_THOUGHT)
        if asked and not opens and "enable_thinking" not in str(self._tokenizer.chat_template):
            raise ConfigError(
                "prompts.thinking: the model's chat template does not read enable_thinking and opens no thought itself, so it"
                " would be asked as without it; set prompts.thinking=false, or give a model that thinks"
            )
        if opens and not asked:
            raise ConfigError(
                "prompts.thinking: the model's chat template begins a thought whether it is asked for or not; set"
                " prompts.thinking=true, and give it room (rollout.max_new_tokens)"
            )

    def escape_special_tokens(self, text: str, *, but: Sequence[str] = ()) -> str:
        """Break the tokenizer's special tokens in a text visibly: `<|im_end|>` -> `<\\|im_end|>`; those in `but` stay."""
        for token in self._special:
            if token in text and token not in but:
                text = text.replace(token, f"{token[0]}\\{token[1:]}" if len(token) > 1 else "\ufffd")
        return text

    def encode(self, message: str) -> tuple[int, ...]:
        """Returns the token ids of a user message, up to where the policy's completion begins."""
        if self._frame is None:
            return (*self._start, *self._plain(message + "\n"))
        return self._plain(self._frame.around(message))

    def completion(self, text: str, *, ended: bool = True) -> tuple[int, ...]:
        """Returns the token ids of a completion to learn from or to score, with its end token unless it was cut short."""
        ids = self._plain(self.escape_special_tokens(text, but=(OPENS_THOUGHT, ENDS_THOUGHT)))
        return (*ids, self._end) if ended else ids

    def chat(self, turns: Sequence[str]) -> tuple[int, ...]:
        """Returns the token ids of a whole chat of foreign texts, as its template writes it; in lines where there is none.

        Args:
            turns: Message, answer, message, answer, and so on: an even number.
        """
        texts = [self.escape_special_tokens(turn) for turn in turns]
        if self._frame is None:
            return (*self._start, *self._plain("\n".join(texts)), self._end)
        return self._plain(self._frame.whole(texts))

    def takes_answers(self, count: int) -> bool:
        """Whether a chat may hold so many answers."""
        frame = self._frame
        return frame is None or (frame.between is not None and (count == 1 or bool(frame.follows)))

    def spelling(self, token: int) -> str:
        """Returns the text of one token, special or not."""
        return str(self._tokenizer.convert_ids_to_tokens(token))

    def decode(self, token_ids: Sequence[int]) -> str:
        """Returns the text of a completion, without special tokens and its end. Ids that no token has, as they are sampled of a
        padded embedding, are no text."""
        if token_ids and (token_ids[-1] == self._end or token_ids[-1] in self._other_ends):
            token_ids = token_ids[:-1]
        return str(self._tokenizer.decode(token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    # ---- what the tokenizer's files say --------------------------------------------------------------------------

    def _plain(self, text: str) -> tuple[int, ...]:
        """The ids of a text alone: nothing that the tokenizer would put before or behind it."""
        # not verbose: what is too long is counted and said by whoever asks, and never given to a model
        return tuple(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _chat_frame(self, thinking: bool) -> ChatFrame | None:
        """None: a base model without a chat format. ConfigError when there is one that cannot be used."""
        template = self._tokenizer.chat_template
        if isinstance(template, dict) and "default" not in template:
            raise ConfigError(
                f"model.path: the model has chat templates for {', '.join(sorted(template))} and none is the default;"
                " name one of them default in tokenizer_config.json"
            )
        if template is None:
            return None
        key = (str(template), json.dumps(self._tokenizer.special_tokens_map, default=str), thinking)
        if key not in _FRAMES:
            _FRAMES[key] = chat_frame(partial(self._render, thinking))
        return _FRAMES[key]

    def _render(self, thinking: bool, messages: Sequence[Message], prompt: bool) -> str:
        return str(
            self._tokenizer.apply_chat_template(
                messages,
                add_generation_prompt=prompt,
                tokenize=False,
                enable_thinking=thinking,  # Qwen3's and others' switch; most templates do not read it
            )
        )

    def _ids_before(self, text: str) -> tuple[int, ...]:
        """What the tokenizer puts before a text by itself; an end token behind it would end the prompt."""
        whole, plain = tuple(self._tokenizer(text)["input_ids"]), self._plain(text)
        start = next((i for i in range(len(whole)) if whole[i : i + len(plain)] == plain), 0)
        return whole[:start]

    def _end_token(self, stops: Sequence[int]) -> int:
        """Returns the token that ends a completion, as the chat format ends a turn.

        That is the special token directly behind an answer, whether or not the model's files name it among `stops` (the engine
        is told); or the first of these behind an answer; or, where a format ends a turn with the head of the next (GLM-4), the
        first of them there; or else the tokenizer's own.
        """
        frame = self._frame
        written, follows = (self._plain(frame.end), self._plain(frame.follows)) if frame is not None else ((), ())
        special = {i for i, token in self._tokenizer.added_tokens_decoder.items() if token.special} - {
            self._tokenizer.bos_token_id
        }
        directly = next((token for token in written if str(self._tokenizer.decode([token])).strip()), None)
        if directly is not None and directly in special:
            return directly
        end = next((token for token in (*written, *follows, *stops) if token in stops), None)
        if end is None:
            raise ConfigError(
                "model.path: the model has no end token, so no completion would end; set eos_token in tokenizer_config.json or"
                " eos_token_id in generation_config.json"
            )
        return end

    def _require_beginning_and_end(self, prompt: Sequence[int], stops: Sequence[int]) -> None:
        """ConfigError when a prompt begins twice, or is ended before a completion can begin."""
        first = self._tokenizer.bos_token_id
        if first is not None and prompt[:2] == (first, first):
            raise ConfigError(
                "model.path: the beginning-of-text token stands twice before a prompt; let the chat template, or the tokenizer"
                " where there is none, write it once"
            )
        frame = self._frame
        if frame is not None and not frame.end and self._plain(frame.around(PLAIN).rstrip())[-1] in stops:
            raise ConfigError(
                "model.path: the chat template's prompt is ended by an end token, so no completion begins there;"
                " let the template write the assistant's head when add_generation_prompt is set"
            )

    def _is_mark(self, token: Any) -> bool:
        """Whether judged text must not hold an added token: it is special, or a mark of the chat format or of a thought."""
        frame = self._frame
        marks = frame is not None and token.content in f"{frame.before} {frame.after} {frame.end} {frame.follows}"
        marks |= token.content in (OPENS_THOUGHT, ENDS_THOUGHT)
        return bool(token.special or (marks and len(token.content) > 2 and MARKUP & {*token.content}))

    def _require_own_vocabulary(self, prompt: Sequence[int], rows: int | None) -> None:
        """ConfigError when a prompt or a completion could hold an id that the model's embedding has no row for.

        Special tokens may lie outside, as Gemma-3's image token does: they are broken in judged text, and those that the chat
        format writes are looked at.
        """
        if rows is None:
            return
        ids: dict[str, int] = self._tokenizer.get_vocab()
        outside = {token: i for token, i in ids.items() if i >= rows and token not in self._special}
        outside |= {str(self._tokenizer.convert_ids_to_tokens(i)): i for i in (*prompt, self._end) if i >= rows}
        if outside:
            token = max(outside, key=lambda token: outside[token])
            raise ConfigError(
                f"model.path: the tokenizer writes ids up to {outside[token]} ({token!r}), the model's embedding has {rows}"
                " rows; give the tokenizer of this model, or enlarge the embedding (resize_token_embeddings) and save it again"
            )

    def _require_judgements(self) -> None:
        """ConfigError when a judgement that is written in tokens cannot be read back, as with an empty vocabulary."""
        back = self.decode(self.completion(SPELLED))
        judgement = parse(back, 2)
        if not isinstance(judgement, Judgement) or judgement.scores != (8, 2):
            raise ConfigError(
                f"model.path: {SPELLED} comes back from the tokenizer as {back[:80]!r}, so no judgement could be read;"
                " its files are missing, or of another model"
            )


def _load(what: str, folder: str, load: Callable[..., Loaded]) -> Loaded:
    """Load a part of a model. The folder's own code never runs, and nobody is asked about it. ConfigError when it cannot be
    loaded."""
    try:
        return load(folder, trust_remote_code=False)
    except Exception as error:  # also what the parsers of tokenizers and sentencepiece raise, which have no error of their own
        raise ConfigError(f"model.path: no {what} can be loaded from {folder} ({_reason(error)})") from error


def _require_own_files(folder: str, tokenizer: Any) -> None:
    """ConfigError when there is Mistral's `tekken.json` alone: it knows no chat format, so an instructed model would be asked
    in another form than its own. Where Hugging Face's files lie beside it, those are read (`mistral_format=False`)."""
    if Path(str(getattr(tokenizer, "vocab_file", None))).name == "tekken.json":
        raise ConfigError(
            f"model.path: {folder} has a tekken.json and no tokenizer.json, and so no chat format; give a folder with the"
            " model's tokenizer.json and tokenizer_config.json"
        )


def _reason(error: Exception) -> str:
    import tokenizers
    import transformers

    text = (str(error).strip().splitlines() or [""])[0]
    text = f"{type(error).__name__} {text}" if isinstance(error, LookupError) else text or type(error).__name__
    if "trust_remote_code" in str(error):
        return "it needs the folder's own Python code (auto_map), which is never run; give a model that transformers has itself"
    if isinstance(error, OSError):
        return text
    if isinstance(error, ImportError):  # transformers says that it could not import, and its cause says why
        text = _first_cause(error)
    return f"{text}; read with transformers {transformers.__version__} and tokenizers {tokenizers.__version__}"


def _first_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if "torchvision" in text:  # of PyPI, beside torch's CPU build: what `pip install` of the extra cpu takes without the stubs
        text += ": torchvision is not for this torch; no judge needs it: pip uninstall torchvision, or see docs/quickstart.md"
    return text


def _stops(folder: str, config: Any, tokenizer: Any) -> list[int]:
    """Returns the tokens at which the engine ends a completion, that of the tokenizer first. ConfigError when they are none."""
    from transformers import GenerationConfig

    try:
        ends = GenerationConfig.from_pretrained(folder).eos_token_id
    except OSError:  # there is no generation_config.json: the engine looks here, too
        ends = config.get_text_config().eos_token_id
    except Exception as error:  # the library checks little of what the file holds
        raise ConfigError(f"model.path: generation_config.json of {folder} cannot be read ({_reason(error)})") from error
    stops = [tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])]
    wrong = next((stop for stop in stops if stop is not None and type(stop) is not int), None)
    if wrong is not None:
        raise ConfigError(f"model.path: eos_token_id of {folder} holds {wrong!r}, which is no token id; give integers")
    return [*dict.fromkeys(stop for stop in stops if stop is not None)]
