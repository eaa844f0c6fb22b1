"""Preferences that are too easy for online RL: the cold start's judgements got them right without a hint, all of them.

    sampled.jsonl ─▶ ids of the easy ones ─▶ the training prompts without them

The paper leaves out of RL what a small model gets right 3 of 3 (arXiv:2504.02495). The file is whole before RL begins and
changes no more, so the prompts at each position of the data cursor are the same in a run that is resumed (I7).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from buffer import json_lines
from configs.schema import Config
from grm.rejection import plain_verdicts
from launch.cluster.failures import RunFailed
from launch.setup.preflight import RunInputs
from launch.setup.prompt_source import prompt_source


def easy_preferences(rows: Iterable[Mapping[str, Any]]) -> set[str]:
    """Returns the ids of those that all judgements without a hint got right.

    Args:
        rows: The cold start's, as `sampled.jsonl` holds them.
    """
    return {
        row["preference"]
        for row in rows
        if not row["hinted"] and "too_easy" in plain_verdicts([completion["reward"] for completion in row["completions"]])
    }


def without_easy(config: Config, inputs: RunInputs, samples: Path, *, note: Callable[[str], None]) -> RunInputs:
    """Returns the inputs with the training prompts that online RL shall issue; as they are, unless `data.skip_easy` is set.

    Args:
        config: The run's.
        inputs: Of the run.
        samples: The cold start's `sampled.jsonl`, whole.
        note: Gets how many are left out, if any.

    Raises:
        RunFailed: No training preference is left.
    """
    if not config.data.skip_easy:
        return inputs
    easy = easy_preferences(row for _, row in json_lines.rows(samples))
    left = [preference.question for preference in inputs.train if preference.question.id not in easy]
    if not left:
        raise RunFailed(
            f"data.skip_easy: the cold start got all {len(inputs.train)} training preferences right, so none is left for online"
            " RL; give harder ones, or set data.skip_easy=false"
        )
    if easy:
        note(
            f"online RL leaves out {len(inputs.train) - len(left)} of {len(inputs.train)} training preferences, which the cold"
            " start always got right (data.skip_easy)"
        )
    return replace(inputs, prompts=prompt_source(config, left, inputs.tokenizer))
