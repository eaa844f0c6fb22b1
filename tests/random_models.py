"""Random models of a few hundred kilobytes, of the architectures that people train, with a tokenizer of their own."""

from pathlib import Path
from typing import Any

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "intermediate_size": 128,
    "max_position_embeddings": 1024,
    "initializer_range": 0.2,  # well away from a uniform distribution, so that differences show
}
_UNTIED = {"tie_word_embeddings": False}  # as all models of the kind are
_EXPERTS = _UNTIED | {"num_experts": 8, "num_experts_per_tok": 2}
_ROUTED = _UNTIED | {
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "moe_intermediate_size": 64,
    "first_k_dense_replace": 1,
}
# What a kind has beside `SHAPE`; None: a key of SHAPE that it does not have.
OWN: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": _UNTIED | {"sliding_window": 64},
    "qwen2": {"head_dim": None},
    "qwen3": {},
    "gemma2": {"sliding_window": 64, "query_pre_attn_scalar": 32},
    "gemma3_text": {"sliding_window": 64, "query_pre_attn_scalar": 32, "layer_types": ["sliding_attention", "full_attention"]},
    "phi3": _UNTIED | {"head_dim": None},
    "qwen3_moe": _EXPERTS | {"moe_intermediate_size": 64, "norm_topk_prob": True},
    "olmoe": _EXPERTS | {"head_dim": None, "intermediate_size": 64},
    "mixtral": _UNTIED | {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    "glm4_moe": _ROUTED,
    "deepseek_v3": _ROUTED
    | {
        "head_dim": None,
        "num_key_value_heads": 2,
        "q_lora_rank": 32,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 64,
        "qk_rope_head_dim": 64,
        "v_head_dim": 64,
        "topk_method": "noaux_tc",  # transformers does not read these two
        "scoring_func": "sigmoid",
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 10000.0,
            "factor": 4.0,
            "original_max_position_embeddings": 256,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
        },
    },
    "gpt2": {
        "n_embd": 64,
        "n_layer": 2,
        "n_head": 2,
        "n_positions": 1024,
        **dict.fromkeys(("hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")),
        **dict.fromkeys(("num_key_value_heads", "head_dim", "intermediate_size")),
    },
}


def make(
    folder: Path,
    kind: str,
    *,
    tied: bool = True,
    seed: int = 0,
    tokenizer: str = "",
    dtype: str = "float32",
    device: str = "cpu",
    **changes: Any,
) -> Path:
    """Write a random model that transformers and vLLM can load, and return its folder.

    Args:
        folder: Where to write it.
        kind: A `model_type` of transformers that is in `OWN`.
        tied: Whether input and output embeddings are tied, where `OWN` leaves that open.
        seed: Of the weights.
        tokenizer: A model folder to take the tokenizer from; "": one of bytes.
        dtype: Of the weights.
        device: Where they are drawn: a billion of them take a minute on a CPU.
        changes: Of the config.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(seed)
    words = AutoTokenizer.from_pretrained(tokenizer) if tokenizer else _tokenizer()
    config = _config(kind, words, tied, changes)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    saved = model.state_dict().keys()
    for name, buffer in model.named_buffers():
        if name in saved:  # as the bias of a router's scores
            buffer.normal_(std=0.1)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def teach_format(folder: Path, *, steps: int = 120, lr: float = 5e-3, device: str = "cpu") -> Path:
    """Train a model of `make(..., tokenizer=...)` for seconds to write a judgement with random scores for any prompt.

    That is enough for groups whose rewards differ, so that a whole run can train on it. A larger model wants a smaller `lr`.
    """
    import random

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from grm.prompts import render, template
    from grm.tiny_world import preferences

    torch.manual_seed(0)
    rng = random.Random(0)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").to(device)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    questions = [p.question for p in preferences(seed=0, count=64, n=2)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    for _ in range(steps):
        rows = []
        for question in rng.sample(questions, 8):
            chat = [{"role": "user", "content": render(question, (0, 1), template("compact"))}]
            prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"]
            answer = f"Scores: \\boxed{{{rng.randint(1, 10)}, {rng.randint(1, 10)}}}{tokenizer.eos_token}"
            rows.append((prompt, tokenizer(answer)["input_ids"]))
        width = max(len(p) + len(a) for p, a in rows)
        ids = torch.full((len(rows), width), tokenizer.pad_token_id)
        labels = torch.full_like(ids, -100)
        for i, (prompt, answer) in enumerate(rows):
            ids[i, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
            labels[i, len(prompt) : len(prompt) + len(answer)] = torch.tensor(answer)
        loss = model(ids.to(device), labels=labels.to(device)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    return folder


def _config(kind: str, tokenizer: Any, tied: bool, changes: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    common = SHAPE | {
        "vocab_size": len(tokenizer),
        "tie_word_embeddings": tied,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
    }
    own = OWN[kind] | changes
    absent = {name for name, value in own.items() if value is None and name in SHAPE}
    return AutoConfig.for_model(kind, **{name: value for name, value in (common | own).items() if name not in absent})


def _tokenizer() -> Any:
    """A tokenizer of bytes and the chat format's special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512, special_tokens=special, initial_alphabet=sorted(alphabet), show_progress=False
    )
    tokenizer.train_from_iterator(["Specific Criteria: Analysis: Scores: \\boxed{1, 2} Response [The Begin of"] * 3, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        additional_special_tokens=["<|im_start|>", "<|endoftext|>"],
        chat_template=CHATML,
        model_max_length=1024,
    )
