"""What transformers computes, to compare an engine with: models of other weights, how they are published, their log-probs."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from actors.generator import Request
from actors.vllm_engine import VllmSettings
from buffer.messages import Completion
from buffer.weights import Probe, PublishedWeights
from learner.weight_export import probe_token_ids, to_published_weights

PROMPTS = [tuple(range(5 + i, 60 + 3 * i)) for i in range(4)]
TOLERANCE = 1e-4  # nats a token, float32; measured: under 1e-5


def settings(folder: Path, seed: int = 1, **changes: Any) -> VllmSettings:
    """A small engine on CPU; `changes` are of its fields."""
    base: dict[str, Any] = {
        "model_path": str(folder),
        "dtype": "float32",
        "context": 256,
        "sequences": 32,
        "kv_cache_bytes": 64 << 20,
        "gpu_memory": 0.9,
        "seed": seed,
        "device": "cpu",
    }
    return VllmSettings(**base | changes)


def request(
    prompt: tuple[int, ...], *, samples: int = 2, temperature: float = 0.7, tokens: int = 24, seed: int | None = None
) -> Request:
    return Request(token_ids=prompt, samples=samples, temperature=temperature, max_new_tokens=tokens, seed=seed)


def noised(folder: Path, seed: int, scale: float = 0.3) -> Any:
    """The model with other weights: each one times 1 + scale * noise."""
    # eager: transformers' other attentions leave out Gemma-2's soft cap (so does the learner, learner/models.py)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + scale * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def publish(model: Any, version: int, dtype: torch.dtype = torch.float32) -> PublishedWeights:
    state = {name: parameter.detach().to("cpu", dtype) for name, parameter in model.named_parameters()}
    return to_published_weights(version, state, model)


def probe(model: Any) -> Probe:
    ids = probe_token_ids(model.config.vocab_size)
    with torch.no_grad():
        logprobs = model(torch.tensor([ids])).logits[0, :-1].float().log_softmax(-1)
    return Probe(token_ids=ids, logprobs=tuple(logprobs.gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()))


def reference(model: Any, prompt: tuple[int, ...], completion: Completion, temperature: float) -> torch.Tensor:
    """transformers' log-prob of each completion token at the sampling temperature."""
    return chosen_and_best(model, prompt, completion, temperature)[0]


def chosen_and_best(
    model: Any, prompt: tuple[int, ...], completion: Completion, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """transformers' log-prob of each completion token, and of the likeliest token in its place; both on the CPU."""
    ids = torch.tensor([[*prompt, *completion.token_ids]], device=model.device)
    with torch.no_grad():
        logits = model(ids).logits[0, len(prompt) - 1 : -1].float() / temperature
    logprobs = logits.log_softmax(-1)
    chosen = logprobs.gather(1, ids[0, len(prompt) :, None])[:, 0]
    return chosen.cpu(), logprobs.max(-1).values.cpu()


def off(model: Any, prompt: tuple[int, ...], completion: Completion, temperature: float = 0.7) -> torch.Tensor:
    """How far the log-prob of each token is from what the model computes."""
    return (torch.tensor(completion.logprobs) - reference(model, prompt, completion, temperature)).abs()


def worst(model: Any, prompt: tuple[int, ...], completion: Completion, temperature: float = 0.7) -> float:
    return float(off(model, prompt, completion, temperature).max())
