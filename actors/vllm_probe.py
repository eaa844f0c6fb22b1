"""The proof that an engine computes with weights what the learner does, reading a prompt as well as decoding.

    probe of the learner ─▶ read as a prompt, then 8 tokens decoded greedily ─▶ log-probs of the prompt = the learner's
                            prompt and decoded tokens, read as a prompt      ─▶ log-probs of the decoded = as when decoding

The two halves differ inside: latent attention, for instance, decodes with projections that were derived from the weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from actors.vllm_adapters import LiveAdapters
from actors.vllm_shards import ShardedModel
from actors.vllm_weights import LiveModel
from buffer.weights import Edition, PublishedWeights

DECODED = 8  # tokens
# Mean difference of log-probs, in nats a token, that rounding explains. Weights in the wrong layout make 0.4 and more in a
# random model, and several nats in a trained one. Seen in bfloat16 on CPU, with logits of float32 here: 0.02 to 0.03 in dense
# models, 0.09 where routers chose otherwise (Mixtral); never measured on a GPU.
ROUNDING = MappingProxyType({"float32": 0.02, "bfloat16": 0.2, "float16": 0.2})


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pending:
    """A request of ours in the engine."""

    edition: Edition
    """Of the weights that it is to be computed with."""
    token_ids: Sequence[int]
    """What is read."""
    expected: Sequence[float]
    """Log-probs of the last tokens that are read."""
    by: str
    """Who found them, in words."""


class Probes:
    """The probes of an engine. Each is two requests, one after the other, beside all others."""

    def __init__(self, engine: Any, model: LiveModel | ShardedModel | LiveAdapters, dtype: str) -> None:
        """Start with none.

        Args:
            engine: the `LLMEngine`.
            model: the model inside it.
            dtype: of its weights.
        """
        self._engine, self._model, self._limit = engine, model, ROUNDING[dtype]
        self._pending: dict[str, _Pending] = {}

    def __bool__(self) -> bool:
        """Whether one is running."""
        return bool(self._pending)

    def start(self, weights: PublishedWeights) -> None:
        """Add the probe of weights that the engine has loaded, if there is one."""
        if (probe := weights.probe) is not None:
            self._add(weights.edition, probe.token_ids, probe.logprobs, "the learner's", decode=DECODED)

    def take(self, output: Any, edition: Edition) -> bool:
        """Returns whether an output is of a probe's request; if so, compare it.

        Args:
            output: of a request that has ended.
            edition: of the weights in force.

        Raises:
            ModelUnsupported: the engine computes something else.
        """
        pending = self._pending.pop(output.request_id, None)
        if pending is None:
            return False
        if pending.edition != edition:  # it was running at a pull, which started another
            return True
        self._compare(pending, _of_prompt(output))
        decoded = output.outputs[0]
        if len(decoded.token_ids) == DECODED:
            found = [float(at[token].logprob) for at, token in zip(decoded.logprobs, decoded.token_ids, strict=True)]
            self._add(edition, [*pending.token_ids, *decoded.token_ids], found, "its own when it decodes", decode=1)
        return True

    def _add(self, edition: Edition, token_ids: Sequence[int], expected: Sequence[float], by: str, *, decode: int) -> None:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        name = f"probe {edition.incarnation}.{edition.version} {len(token_ids)}"
        params = SamplingParams(
            temperature=0.0,
            max_tokens=decode,
            ignore_eos=True,
            logprobs=0,
            prompt_logprobs=0,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        prompt = {"prompt_token_ids": list(token_ids)}
        self._engine.add_request(name, prompt, params, lora_request=self._model.lora_request)
        self._pending[name] = _Pending(edition=edition, token_ids=token_ids, expected=expected, by=by)

    def _compare(self, pending: _Pending, found: Sequence[float]) -> None:
        pairs = zip(found[-len(pending.expected) :], pending.expected, strict=True)
        mean = sum(abs(ours - theirs) for ours, theirs in pairs) / len(pending.expected)
        if not mean <= self._limit:
            raise self._model.unsupported(
                f"with the published weights of version {pending.edition.version}, its log-probs in vLLM are {mean:.2f} nats a"
                f" token away from {pending.by} (at most {self._limit}), so what it samples would be trained on wrongly"
            )


def _of_prompt(output: Any) -> list[float]:
    """Returns the log-prob of each token of the prompt but the first."""
    tokens = output.prompt_token_ids[1:]
    return [float(at[token].logprob) for at, token in zip(output.prompt_logprobs[1:], tokens, strict=True)]
