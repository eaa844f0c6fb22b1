"""Model folders without weights: a config.json, and a tokenizer of single bytes with any special tokens and chat template."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.random_models import CHATML

CONFIG: dict[str, Any] = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "max_position_embeddings": 1024}
SPECIAL = ("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<pad>")

INST = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] | trim }} [/INST]"
    "{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
PARTS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for part in m['content'] %}{{ part['text'] }}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
USER_ALONE = (
    "{% for m in messages %}{% if m['role'] != 'user' %}{{ raise_exception('no answers') }}{% endif %}"
    "user: {{ m['content'] }}\nassistant:{% endfor %}"
)


def make(
    folder: Path,
    *,
    template: str | list[dict[str, str]] | None = CHATML,
    special: Sequence[str] = SPECIAL,
    words: Sequence[str] = (),
    bos: str | None = "<s>",
    eos: str | None = "</s>",
    pad: str | None = "<pad>",
    adds: str = "$A",
    rows: int = 0,
    config_eos: int | None = None,
    generation_eos: int | list[int] | None = None,
) -> Path:
    """Write the folder.

    Args:
        folder: Where to write it.
        template: The chat template, several by name, or none.
        special: The special tokens; their ids come first, from 0.
        words: Added tokens that are not special; their ids come last.
        bos: Beginning of text.
        eos: End token of the tokenizer.
        pad: Padding.
        adds: What the tokenizer makes of a text, as in tokenizers' TemplateProcessing.
        rows: Of the embedding; 0: as many as there are tokens.
        config_eos: End token in config.json.
        generation_eos: End tokens in generation_config.json; None: there is no such file.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate([*special, *alphabet])}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([*special])
    core.add_tokens([AddedToken(word, normalized=False) for word in words])
    ids = [(token, i) for i, token in enumerate(special)]
    core.post_processor = processors.TemplateProcessing(single=adds, special_tokens=ids)
    named = {"bos_token": bos, "eos_token": eos, "pad_token": pad}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **{name: token for name, token in named.items() if token})
    tokenizer.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | ({} if template is None else {"chat_template": template})))
    config = CONFIG | {"vocab_size": rows or len(tokenizer), "eos_token_id": config_eos}
    (folder / "config.json").write_text(json.dumps(config))
    if generation_eos is not None:
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": generation_eos}))
    return folder
