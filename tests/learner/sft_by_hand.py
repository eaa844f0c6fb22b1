"""Random examples to fine-tune on, for the tests of one rank and of several."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

from learner.sft_examples import Example
from tests.learner.run_by_hand import END


def examples(count: int, *, seed: int, vocabulary: int = 250) -> list[Example]:
    """Return random examples; some share a prompt, as samples of one preference do.

    The few tokens that completions are made of are all that carries over to other examples: the rest is overfitting.
    """
    rng = random.Random(seed)
    prompts = [tuple(rng.randrange(vocabulary) for _ in range(rng.randint(1, 30))) for _ in range(-(-2 * count // 3))]
    completions = [(*(rng.randrange(4, 24) for _ in range(rng.randint(0, 20))), END) for _ in range(count)]
    return [
        Example(prompt_ids=prompts[i % len(prompts)], completion_ids=completions[i], preference=f"p{i % len(prompts)}")
        for i in range(count)
    ]


def write(path: Path, chosen: Sequence[Example]) -> Path:
    """Write a data set file of these examples."""
    rows = [
        {"prompt_ids": example.prompt_ids, "completion_ids": example.completion_ids, "preference": example.preference}
        for example in chosen
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path
