"""Text in, token ids out: the policy's tokenizer and chat format."""

from collections.abc import Sequence
from typing import Any

from configs.load import ConfigError


class Tokenizer:
    """The policy's tokenizer and chat format. Foreign text goes through `escape_special_tokens`, so none of it can become a
    special token."""

    def __init__(self, folder: str) -> None:
        """Load the tokenizer of a folder or hub name. ConfigError when there is none."""
        from transformers import AutoTokenizer

        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError, KeyError) as error:
            why = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ConfigError(f"model.path: no tokenizer can be loaded from {folder} ({why})") from error
        added = self._tokenizer.added_tokens_decoder.values()
        self._special = sorted({token.content for token in added if token.special}, key=len, reverse=True)

    def escape_special_tokens(self, text: str) -> str:
        """Break the tokenizer's special tokens in a text visibly: `<|im_end|>` -> `<\\|im_end|>`."""
        for token in self._special:
            if token in text:
                text = text.replace(token, f"{token[0]}\\{token[1:]}")
        return text

    def encode(self, message: str) -> tuple[int, ...]:
        """Returns the token ids of a user message, up to where the policy's completion begins."""
        if self._tokenizer.chat_template is None:
            return tuple(self._tokenizer(message + "\n")["input_ids"])
        ids = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": message}],
            add_generation_prompt=True,
            return_dict=True,
            enable_thinking=False,  # Qwen3: judge at once; other templates do not read it
        )["input_ids"]
        return tuple(ids)

    def completion(self, text: str, *, ended: bool = True) -> tuple[int, ...]:
        """Returns the token ids of a completion to learn from or to score, with its end token unless it was cut short."""
        ids = self._tokenizer(self.escape_special_tokens(text), add_special_tokens=False)["input_ids"]
        return (*ids, self._tokenizer.eos_token_id) if ended else tuple(ids)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Returns the text of a completion, without special tokens."""
        return str(self._tokenizer.decode(token_ids, skip_special_tokens=True))
