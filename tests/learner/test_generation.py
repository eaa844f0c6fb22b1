"""Greedy completions by a model in training, against decoding token by token without a cache."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from learner.generation import GreedyRequest, complete, in_order, share
from tests.learner.run_by_hand import END

PROMPTS = [(5, 6, 7, 8), (9, 10), (11, 12, 13, 14, 15, 16), (17,), (18, 19, 20)]


@pytest.mark.parametrize("world", [1, 2, 3, 5, 7])
def test_ranks_share_the_prompts_and_their_answers_come_in_order(world: int) -> None:
    shares = [share(PROMPTS, rank, world) for rank in range(world)]
    assert len({len(part) for part in shares}) == 1, "as many collectives on each rank"
    assert in_order(shares, len(PROMPTS)) == PROMPTS


def plainly(model: Any, prompt: tuple[int, ...], limit: int) -> tuple[int, ...]:
    ids = list(prompt)
    while len(ids) < len(prompt) + limit and (len(ids) == len(prompt) or ids[-1] != END):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return tuple(ids[len(prompt) :])


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_it_writes_what_is_likeliest_up_to_the_end_token(model: Path, rows: int) -> None:
    network: Any = AutoModelForCausalLM.from_pretrained(model, attn_implementation="eager")
    network.get_output_embeddings().weight.data[END] *= 3  # so that some of the completions end
    network.generation_config = GenerationConfig(repetition_penalty=1e6, do_sample=True, top_k=1)  # as a folder may say
    network.train()
    request = GreedyRequest(prompts=tuple(PROMPTS), limit=12, end=END)
    written = complete(network, PROMPTS, request, rows=rows, synced=False, device=torch.device("cpu"))
    assert network.training
    with torch.no_grad():
        assert written == [plainly(network.eval(), prompt, 12) for prompt in PROMPTS]
    assert all(END not in ids[:-1] for ids in written)
    longest = max(written, key=len)
    request = GreedyRequest(prompts=tuple(PROMPTS), limit=12, end=END, other_ends=(longest[1],))
    ended = complete(network, PROMPTS, request, rows=rows, synced=False, device=torch.device("cpu"))
    assert ended == [ids[: min(ids.index(end) + 1 if end in ids else 12 for end in request.ends)] for ids in written]
    assert len(ended[written.index(longest)]) <= 2 < len(longest)
