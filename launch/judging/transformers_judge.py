"""A model in transformers as a judge: for machines without vLLM, and for small jobs. It decodes one prompt at a time.

The distribution is that of the engines: the softmax of the logits at the temperature, nothing cut off, whatever the model's
folder says of sampling. The numbers that it draws are torch's, so its samples are others than those of vLLM.
"""

from collections.abc import Sequence

import torch
from transformers import GenerationConfig

from configs.schema import Config
from launch.judging.engine_requests import encoded
from launch.judging.protocol import Answer, JudgeRequest, NotJudged
from launch.setup.tokenizer import Tokenizer
from learner import models
from learner.generation import ended


class TransformersJudge:
    """A `Judge` in this process."""

    def __init__(self, config: Config, *, model: str, tokenizer: Tokenizer) -> None:
        """Load the model of a folder or hub name, for the device and in the number format of the config."""
        self._limit, self._device = config.max_prompt_tokens, torch.device(config.cluster.device)
        self._tokenizer = tokenizer
        self._model = models.load_policy(model, config.dtype, config.cluster.device).to(self._device).eval()
        self._model.generation_config = GenerationConfig()  # what the folder says of sampling would be merged in otherwise
        self._ends = [tokenizer.end_token, *tokenizer.other_ends]

    def escape_special_tokens(self, text: str) -> str:
        """Returns the text without special tokens of the judge's tokenizer."""
        return self._tokenizer.escape_special_tokens(text)

    def judge(self, requests: Sequence[JudgeRequest]) -> list[tuple[Answer, ...] | NotJudged]:
        """Returns the answers. ValueError when one is asked for with alternatives, which are not told here."""
        with torch.no_grad(), models.dense_attention(self._model):
            return [self._answer(request) for request in requests]

    def close(self) -> None:
        """Give the model's memory back."""
        del self._model

    def _answer(self, request: JudgeRequest) -> tuple[Answer, ...] | NotJudged:
        if request.alternatives:
            raise ValueError("eval.expected_scores: transformers tells no alternatives here; judge with vLLM, or leave it out")
        token_ids = encoded(self._tokenizer, request, self._limit)
        if isinstance(token_ids, NotJudged):
            return token_ids
        ids = torch.tensor([token_ids], device=self._device)
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):  # the caller's own random numbers stay as they are
            torch.manual_seed(request.seed)
            written = self._model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=self._settings(request)
            )
        completions = [ended(row, self._ends) for row in written[:, len(token_ids) :].tolist()]
        answers = tuple(map(self._read, completions))
        return answers if request.temperature > 0 else answers * request.samples

    def _settings(self, request: JudgeRequest) -> GenerationConfig:
        shared = {
            "max_new_tokens": request.max_new_tokens,
            "eos_token_id": self._ends,
            "pad_token_id": self._tokenizer.end_token,
            "use_cache": True,
        }
        if request.temperature > 0:
            drawn = {"temperature": request.temperature, "top_k": 0, "top_p": 1.0, "num_return_sequences": request.samples}
            return GenerationConfig(do_sample=True, **drawn, **shared)
        return GenerationConfig(do_sample=False, **shared)  # equal samples, so one is written

    def _read(self, token_ids: tuple[int, ...]) -> Answer:
        return Answer(
            text=self._tokenizer.decode(token_ids),
            tokens=len(token_ids),
            finish="stop" if token_ids and token_ids[-1] in self._ends else "length",
        )
