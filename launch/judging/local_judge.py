"""An engine in this process as a judge: for Python, where no run and no Ray is needed.

requests ─▶ [ SamplingEngine ] ─▶ answers
"""

import time
from collections.abc import Sequence

from actors.generator import SamplingEngine
from configs.schema import Config
from launch.judging.engine_requests import answer_of, encoded, engine_request
from launch.judging.protocol import Answer, JudgeRequest, NotJudged
from launch.setup.tokenizer import Tokenizer


class LocalJudge:
    """A `Judge` over one engine, which decodes all requests together."""

    def __init__(self, config: Config, *, engine: SamplingEngine, tokenizer: Tokenizer) -> None:
        """Takes over the engine: `close` ends it."""
        self._limit, self._judge_s = config.max_prompt_tokens, config.waits.judge_s
        self._engine, self._tokenizer = engine, tokenizer

    def escape_special_tokens(self, text: str) -> str:
        """Returns the text without special tokens of the judge's tokenizer."""
        return self._tokenizer.escape_special_tokens(text)

    def judge(self, requests: Sequence[JudgeRequest]) -> list[tuple[Answer, ...] | NotJudged]:
        """Returns the answers. TimeoutError when none was given for `waits.judge_s`; EngineDead when the engine has ended."""
        answers: list[tuple[Answer, ...] | NotJudged] = []
        asked = []
        for request in requests:
            token_ids = encoded(self._tokenizer, request, self._limit)
            answers.append(token_ids if isinstance(token_ids, NotJudged) else ())
            if not isinstance(token_ids, NotJudged):
                asked.append((len(answers) - 1, engine_request(request, token_ids)))
        futures = self._engine.submit([request for _, request in asked])
        last_answer_at = time.monotonic()
        for (place, _), future in zip(asked, futures, strict=True):
            fresh = not future.done()
            try:
                completions = future.result(timeout=max(0.0, last_answer_at + self._judge_s - time.monotonic()))
            except TimeoutError:
                missing = sum(not each.done() for each in futures)
                raise TimeoutError(
                    f"the judge waited {self._judge_s:.0f} s for {missing} of {len(futures)} prompts to be judged"
                    " (waits.judge_s)"
                ) from None
            last_answer_at = time.monotonic() if fresh else last_answer_at
            answers[place] = tuple(map(answer_of, completions))
        return answers

    def close(self) -> None:
        """End the engine."""
        self._engine.close()
