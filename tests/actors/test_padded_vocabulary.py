"""An embedding with more rows than the tokenizer has tokens, as many models have: the engine samples such ids too."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from actors.vllm_engine import VllmEngine
from launch.setup.tokenizer import Tokenizer
from tests.actors.reference_models import PROMPTS, TOLERANCE, request, settings, worst
from tests.random_models import make

pytestmark = [pytest.mark.slow, pytest.mark.full]


def test_ids_that_no_token_has_are_sampled_scored_and_no_text(tmp_path: Path) -> None:
    folder = make(tmp_path, "llama")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.resize_token_embeddings(640, mean_resizing=True)
    model.save_pretrained(folder)
    tokenizer = Tokenizer(str(folder))
    known = len(tokenizer._tokenizer)
    engine = VllmEngine(settings(folder))
    try:
        (completions,) = (f.result(timeout=120) for f in engine.submit([request(PROMPTS[0], samples=8, temperature=1.0)]))
    finally:
        engine.close()
    assert any(token >= known for completion in completions for token in completion.token_ids)
    for completion in completions:
        assert worst(model.eval(), PROMPTS[0], completion, temperature=1.0) < TOLERANCE
        text = tokenizer.decode([token for token in completion.token_ids if token < known])
        assert tokenizer.decode(completion.token_ids) == text
