"""What lies beside the weights of every model that is written: judge.json with its templates, and a model card.

One function makes all of it, as {name: text}; whoever writes a model's folder writes these files into it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.schema import Config
from grm.own_converters import split
from grm.sources import NAMED
from launch.setup.hub import cached_folder
from launch.setup.judge_settings import FILE, KINDS, SINGLE, TEMPLATE, JudgeSettings, settings_files
from launch.setup.model_files import is_folder

CARD = "README.md"
BESIDE = (FILE, TEMPLATE, SINGLE, CARD)
_HEAD = re.compile(r"\A---\n(.*?)^---[ \t]*$", re.DOTALL | re.MULTILINE)
_LICENCE = re.compile(r"^license:[ \t]*([\w.\-]+)[ \t]*$", re.IGNORECASE | re.MULTILINE)
_HEAD_BYTES = 1 << 16  # of a card, in which its front matter stands


@dataclass(frozen=True, kw_only=True, slots=True)
class CardFigure:
    """A figure of a judge on held-out preferences."""

    name: str
    """What was measured of which policy, in words."""
    value: float
    """0..1."""
    low: float | None = None
    """Lower end of its 95 % interval; None where it has none."""
    high: float | None = None
    """Upper end."""
    rows: int
    """Preferences behind it."""


def files_beside(
    config: Config, settings: JudgeSettings, *, base: str, run: str, preferences: int, figures: Sequence[CardFigure]
) -> dict[str, str]:
    """Returns the files that lie beside a model's weights, by name.

    Args:
        config: Of the run.
        settings: How the model is asked.
        base: Folder or hub name of the model that training began with, as its files are found.
        run: The run's id.
        preferences: How many it is trained on, of all sources in `data.train`.
        figures: What is known of it by now.
    """
    named = _model_name(config.model.path)
    licence = licence_of(base)
    head = {
        **({"license": licence} if licence else {}),
        **({"base_model": named} if "/" in named else {}),
        "library_name": "transformers",
        "tags": "[reward-model, llm-as-a-judge, spct]",
    }
    sections = [
        "---\n" + "".join(f"{key}: {value}\n" for key, value in head.items()) + "---",
        f"# {run}: {KINDS[settings.kind]} trained by SPCT",
        f"Made from `{named}` (licence: {licence or 'not known here; see the base model'}) by Self-Principled Critique Tuning"
        " ([arXiv:2504.02495](https://arxiv.org/abs/2504.02495)).",
        _use(settings),
        _how_asked(settings),
        f"## Training data\n\n{preferences} preferences of\n\n"
        + "\n".join(f"- `{_source_name(name)}`" for name in config.data.train),
        _figures(figures),
    ]
    return {**settings_files(settings), CARD: "\n\n".join(sections) + "\n"}


def licence_of(model: str) -> str:
    """Returns the licence that the card of a model on this disk names; "" where it names none."""
    folder = Path(model) if Path(model).is_dir() else cached_folder(model)
    card = None if folder is None else Path(folder) / CARD
    if card is None or not card.is_file():
        return ""
    try:
        with card.open("rb") as opened:
            head = _HEAD.match(opened.read(_HEAD_BYTES).decode("utf-8", "replace"))
    except OSError:  # a card that cannot be read is no reason to end a run
        return ""
    found = _LICENCE.search(head[1]) if head else None
    return found[1] if found else ""


def _model_name(path: str) -> str:
    """Returns a model as others may read it: of a folder on this machine the last part alone."""
    return Path(path).name if is_folder(path) else path


def _source_name(source: str) -> str:
    """Returns a data source as others may read it: of a path on this machine the last part alone, of a set's copy nothing. A
    revision with a slash in it looks like a folder, and is left out with it."""
    source = split(source)[1]
    if not source.startswith(NAMED):
        return Path(source).name
    name, at, copy = source.partition("@")
    return name if "/" in copy or Path(copy).expanduser().exists() else f"{name}{at}{copy}"


def _use(settings: JudgeSettings) -> str:
    meta = settings.kind == "meta-rm"
    opened = 'spct.Judge("ITS JUDGE", meta_rm="THIS FOLDER")' if meta else 'spct.Judge("THIS FOLDER")'
    scored = f"judge.score(query, responses, votes=8{', meta=True' if meta else ''})"
    lines = [f"with {opened} as judge:", f"    result = {scored}"]
    shown = "    print(result.scores, result.shares, result.judgements[0].critique)"
    return "\n".join(["## Use", "", "```python", "import spct", "", *lines, shown, "```"])


def _how_asked(settings: JudgeSettings) -> str:
    low, high = settings.scale
    seen = ", ".join(map(str, settings.responses)) or "not known"
    style = f"the shipped `{settings.style}`" if settings.style else "a template of its own"
    return "\n".join(
        [
            "## How it is asked",
            "",
            "`judge.json` says all of this to programs.",
            "",
            f"- prompt: {style}, in `judge_template.txt`{'' if settings.principles else ', without principles'}",
            f"- scores: integers {low}..{high}, one for each response, in `\\boxed{{}}` behind the last `Scores:`",
            f"- responses in a prompt, in training: {seen}",
            f"- shown beside the query: {', '.join(settings.show) or 'nothing'}",
            f"- thinking: {'yes' if settings.thinking else 'no'}; ends in {', '.join(f'`{end}`' for end in settings.stop)}",
            f"- tokens: {settings.context} in all, {settings.max_new_tokens} of a judgement",
        ]
    )


def _figures(figures: Sequence[CardFigure]) -> str:
    if not figures:
        return "## Figures\n\nNone was measured when this was written."
    lines = [f"| {f.name} | {f.value:.1%} | {_interval(f)} | {f.rows} |" for f in figures]
    head = ["## Figures", "", "| on held-out preferences | accuracy | 95 % interval | preferences |", "|---|---|---|---|"]
    return "\n".join([*head, *lines])


def _interval(figure: CardFigure) -> str:
    return "" if figure.low is None or figure.high is None else f"{figure.low:.1%} to {figure.high:.1%}"
