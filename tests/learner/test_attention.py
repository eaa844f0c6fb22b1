"""Which token sees which, and the attention of GPUs on a CPU: blocks, the flash path, and both against the unbranched model.

A model that is loaded for a GPU computes here too. Torch's flex attention has a kernel for CPUs without a backward pass, and an
unfused form that defines what kernels compute: `unfused` takes that one, gradients included.
"""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import flex_attention as flex
from transformers import AttentionInterface

from learner import shared_prefix
from learner.batching import Tokens
from learner.generation import GreedyRequest, complete
from learner.logprobs import TokenLogProbs
from learner.meta_rm import CorrectnessLogits
from learner.models import dense_attention, load_classifier, load_policy
from learner.shared_prefix import BLOCK_SPARSE, attention_mask, visible
from tests import random_models
from tests.learner.attention_by_hand import packed, unfused_flex_attention
from tests.learner.test_logprobs import check_plain, narrow_window

KINDS = ["llama", "qwen2", "qwen3", "gemma2", "gemma3_text"]


@pytest.fixture
def unfused() -> Iterator[None]:
    with unfused_flex_attention():
        yield


@pytest.fixture
def masks(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list that grows with the mask of each layer's attention, whatever computes it."""
    seen: list[Any] = []

    def spied(attend: Any) -> Any:
        def spy(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **options: Any) -> Any:
            seen.append(mask)
            return attend(module, query, key, value, mask, **options)

        return spy

    for name in ("sdpa", BLOCK_SPARSE):
        monkeypatch.setitem(AttentionInterface._global_mapping, name, spied(AttentionInterface()[name]))
    return seen


def table(tokens: Tokens, window: int | None) -> list[list[str]]:
    """Return, of each row, a word per query: x where it sees the key."""
    rows, length = tokens.input_ids.shape
    row, at = torch.arange(rows), torch.arange(length)
    seen = visible(tokens, window)(row[:, None, None], row, at[:, None], at)
    return [["".join("x" if key else "." for key in query) for query in one] for one in seen.tolist()]


def test_worked_tables() -> None:
    """A prompt of 2, completions of 2 and 1; one of 1 and a completion of 1, with 3 of padding."""
    tokens = packed([(2, (2, 1)), (1, (1,))], share=True)
    assert table(tokens, None) == [["x....", "xx...", "xxx..", "xxxx.", "xx..x"], ["x....", "xx...", "x.x..", "x.xx.", "x.xxx"]]
    assert tokens.positions.tolist()[0] == [0, 1, 2, 3, 2]
    assert table(tokens, 2)[0] == ["x....", "xx...", ".xx..", "..xx.", ".x..x"], "the neighbour's tokens are no distance"


@pytest.mark.parametrize("window", [None, 260])
def test_blocks_hold_what_the_formula_sees(window: int | None) -> None:
    tokens = packed([(150, (140, 90, 40)), (200, (60, 150)), (20, (300,))], share=True)
    rows, length = tokens.input_ids.shape
    sees, row, at = visible(tokens, window), torch.arange(rows), torch.arange(length)
    dense = sees(row[:, None, None], row, at[:, None], at)
    padded = torch.zeros(rows, 512, 512, dtype=torch.bool)
    padded[:, :length, :length] = dense
    of_blocks = padded.view(rows, 4, 128, 4, 128).transpose(2, 3)
    mask = shared_prefix._blocks(tokens, sees)
    assert torch.equal(mask.to_dense()[:, 0].bool(), of_blocks.any(-1).any(-1))
    assert 0 < int(mask.full_kv_num_blocks.sum()) == int(of_blocks.all(-1).all(-1).sum()), "these are computed without it"


@pytest.mark.usefixtures("unfused")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [True, False], ids=["shared prefix", "alone"])
def test_on_a_gpu_it_equals_the_unbranched_model_too(tmp_path: Path, kind: str, share: bool, masks: list[Any]) -> None:
    folder = random_models.make(tmp_path, kind)
    narrow_window(folder)
    model: Any = load_policy(str(folder), "float32", "cuda")
    assert model.config._attn_implementation == BLOCK_SPARSE
    check_plain(model, folder, share=share)
    in_blocks = {"gemma2": 2, "gemma3_text": 2 if share else 1}.get(kind, 2 if share else 0)
    assert sum(isinstance(mask, flex.BlockMask) for mask in masks) == in_blocks, "of two layers"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3_text"])
def test_rows_of_one_completion_have_no_mask(tmp_path: Path, kind: str, device: Any, masks: list[Any]) -> None:
    """Padded ones too, as long as they are within the window."""
    policy = TokenLogProbs(load_policy(str(random_models.make(tmp_path, kind)), "float32", device), temperature=1.0)
    policy(packed([(9, (5, 3)), (4, (2,))], share=False))
    assert len(masks) >= 2
    assert masks == [None] * len(masks)


@pytest.mark.usefixtures("unfused")
def test_the_meta_rm_scores_alike(tmp_path: Path) -> None:
    folder = random_models.make(tmp_path, "gemma2")
    tokens = packed([(9, (5, 3)), (4, (2, 6))], share=True)
    logits = []
    for device in ("cpu", "cuda"):
        model = load_classifier(str(folder), "float32", device)
        torch.nn.init.normal_(model.get_parameter("score.weight"), generator=torch.Generator().manual_seed(0))
        logits.append(CorrectnessLogits(model)(tokens))
    torch.testing.assert_close(logits[1], logits[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_generation_takes_the_masks_of_transformers(tmp_path: Path, kind: str) -> None:
    """Its batches have padding on the left."""
    folder = random_models.make(tmp_path, kind)
    request = GreedyRequest(prompts=((5, 6, 7, 8), (9,)), limit=6, end=2)
    written = []
    for device in ("cpu", "cuda"):
        model: Any = load_policy(str(folder), "float32", device)
        loaded = model.config._attn_implementation
        written.append(complete(model, request.prompts, request, rows=2, synced=False, device=torch.device("cpu")))
        assert model.config._attn_implementation == loaded
    assert written[0] == written[1]


def test_a_cap_is_never_left_out(tmp_path: Path) -> None:
    model: Any = load_policy(str(random_models.make(tmp_path, "gemma2")), "float32", "cuda")
    with pytest.raises(ValueError, match="Gemma2Attention caps its scores, which needs a mask of blocks"):
        model(torch.tensor([[1, 2, 3]]))
    with dense_attention(model):
        assert model.config._attn_implementation == "eager"


def test_where_flex_attention_is_not_for_a_model_it_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "learner.models")
    folder = random_models.make(tmp_path, "mistral")
    known = ", ".join(sorted(shared_prefix.ARCHITECTURES))
    for device, said in (
        ("cpu", []),
        ("cuda", [f"mistral: attention is sdpa, with dense masks; flex attention is for {known}"]),
    ):
        caplog.clear()
        model: Any = load_policy(str(folder), "float32", device)
        assert model.config._attn_implementation == "sdpa"
        assert caplog.messages == said


@pytest.fixture
def compiled() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.full
@pytest.mark.slow
@pytest.mark.usefixtures("compiled")
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles its CPU kernel with g++")
@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_torchs_kernel_for_cpus_skips_blocks_rightly(tmp_path: Path, kind: str) -> None:
    """Forwards, since it has no backward pass, and of one shape: of several 2.13 compiles code with errors."""
    folder = random_models.make(tmp_path, kind)
    tokens = packed([(150, (140, 90, 40)), (200, (60, 150))], share=True)
    with torch.no_grad():
        dense, blocks = (
            TokenLogProbs(load_policy(str(folder), "float32", device), temperature=1.0)(tokens)[0] for device in ("cpu", "cuda")
        )
    torch.testing.assert_close(blocks, dense, atol=3e-5, rtol=1e-4)


def test_a_lone_row_has_a_mask_beyond_the_window_alone(tmp_path: Path) -> None:
    config: Any = load_policy(str(random_models.make(tmp_path, "gemma3_text")), "float32", "cuda").config
    config.sliding_window = 8
    assert attention_mask(packed([(3, (4,))], share=True), config, torch.float32) is None
    long = attention_mask(packed([(9, (4,))], share=True), config, torch.float32)
    assert long["full_attention"] is None
    assert isinstance(long["sliding_attention"], flex.BlockMask)
