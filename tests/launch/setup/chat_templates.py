"""Chat templates of other people, and the ids that transformers makes with them."""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from launch.setup.tokenizer import Tokenizer
from tests.random_models import CHATML
from tests.small_tokenizers import make

MESSAGE = (
    " \nJudge.\n[The Begin of Response 1]\n\\boxed{8, 2} {{ x }} <b>&amp;</b> für 雪\n[The End of Response 1]\nBe strict. \n"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
TURNS: dict[str, Any] = {
    "special": ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>", "<pad>"),
    "bos": "<bos>",
    "eos": "<eos>",
}
THINKING = CHATML.replace("assistant\n{%", "assistant\n{% if enable_thinking %}<think>{% endif %}{%")


def loaded(folder: Path, *, thinking: bool = False, **how: Any) -> Tokenizer:
    return Tokenizer(str(make(folder, **how)), thinking=thinking)


def reference(
    folder: Path, *, parts: bool = False, answer: str = "", message: str = MESSAGE, thinking: bool = False
) -> tuple[int, ...]:
    """The ids of the chat as transformers makes them."""
    form = (lambda text: [{"type": "text", "text": text}]) if parts else str
    chat = [{"role": "user", "content": form(message)}]
    chat += [{"role": "assistant", "content": form(answer)}] if answer else []
    made = AutoTokenizer.from_pretrained(folder).apply_chat_template(
        chat, add_generation_prompt=not answer, return_dict=True, enable_thinking=thinking
    )
    return tuple(made["input_ids"])
