"""What a run was made from, as fingerprints in its folder: a run that goes on must find the same data, template and model.

data, general data, template, model ─▶ Fingerprints ─▶ <run>/inputs.json      written when the run begins
                                            └ compared when it goes on: what has changed is refused, by name

The data cursor is a position and a label is found by an id, which may be a number: with other data behind them, a run
would go on and be wrong.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from buffer import files
from buffer.json_text import JsonError, read_value
from configs.load import ConfigError
from grm.instructions import Instruction
from grm.own_functions import path_of
from grm.preferences import Preference
from grm.prompts import Template
from grm.teacher_files import TeacherJudgement
from launch.setup import model_files
from launch.setup.preference_data import PreferenceData

FILE = "inputs.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Fingerprint:
    """One input of a run."""

    leaf: str
    """The leaf of the config that names it."""
    name: str
    """The input, as the config names it."""
    rows: int | None
    """Preferences or examples that are used of it; None of what is no data."""
    digest: str
    """Hash of what is used of it; of a model as `model_files.fingerprint` gives it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Teacher:
    """Who writes the judgements of a cold start, where it is not the policy."""

    name: str
    """The file as the config names it, or the name of a served model, which may move to another address."""
    judgements: Sequence[TeacherJudgement] | None
    """Those of the file; None of a served model."""


def fingerprints(
    data: Iterable[PreferenceData],
    general: Sequence[tuple[str, Sequence[Instruction]]],
    template: Template,
    teacher: Teacher | None = None,
    *,
    model: str,
    path: str,
    functions: Mapping[str, str] = MappingProxyType({}),
) -> list[Fingerprint]:
    """Returns the fingerprints of all inputs of a run.

    Data is taken as it is used, whatever file or library it came from: rows that `data.train_limit` leaves out may change.

    Args:
        data: Training and held-out preferences.
        general: The examples of each file of `cold_start.general`.
        template: The prompt template.
        teacher: The cold start's, if it has one.
        model: Folder or hub name of the base model; its tokenizer may have been downloaded already.
        path: The same as the config names it.
        functions: {leaf: FILE.py:FUNCTION} of the user's own functions.
    """
    found = [
        Fingerprint(
            leaf=each.leaf, name=source.name, rows=len(source.preferences), digest=_digest(map(_content, source.preferences))
        )
        for each in data
        for source in each.sources
    ]
    for name, examples in general:
        digest = _digest([example.prompt, example.completion] for example in examples)
        found.append(Fingerprint(leaf="cold_start.general", name=name, rows=len(examples), digest=digest))
    if teacher is not None:
        judgements = teacher.judgements or ()
        rows = None if teacher.judgements is None else len(judgements)
        digest = _digest(map(astuple, judgements))
        found.append(Fingerprint(leaf="cold_start.teacher", name=teacher.name, rows=rows, digest=digest))
    texts = [template.graded, template.verdict]
    found.append(Fingerprint(leaf="prompts", name=f"template {template.name}", rows=None, digest=_digest(texts)))
    for leaf, named in functions.items():
        text = path_of(named).read_text(encoding="utf-8")
        found.append(Fingerprint(leaf=leaf, name=named, rows=None, digest=_digest([text])))
    found.append(Fingerprint(leaf="model.path", name=path, rows=None, digest=model_files.fingerprint(model)))
    return found


def _content(preference: Preference) -> list[Any]:
    question = preference.question
    more = [question.reference, question.criteria] if question.reference or question.criteria else []
    return [question.id, question.query, question.responses, preference.label, preference.subset, *more]


def _digest(values: Iterable[Any]) -> str:
    digest = hashlib.sha256()
    for value in values:
        digest.update(json.dumps(value).encode() + b"\n")
    return digest.hexdigest()[:16]


def write(folder: Path, found: Sequence[Fingerprint]) -> None:
    """Record the inputs of a run that begins."""
    files.write(folder / FILE, json.dumps([asdict(each) for each in found], indent=2) + "\n")


def require_same(folder: Path, found: Sequence[Fingerprint]) -> bool:
    """Compare the inputs with those that the run in `folder` began with.

    Returns:
        False when there is nothing to compare with: the run began before inputs were recorded.

    Raises:
        ConfigError: They differ; it names what has changed, or the file that cannot be read.
    """
    file = folder / FILE
    if not file.exists():
        return False
    try:
        begun = [Fingerprint(**row) for row in read_value(file)]
    except (OSError, JsonError, TypeError) as error:
        raise ConfigError(f"{file} cannot be read ({error}): restore it from a copy, or start a new run") from None
    if changes := _changes(begun, found):
        raise ConfigError(
            f"{folder}: the run began with other inputs: {'; '.join(changes)}. Its cursor, labels and judgements belong to"
            f" those: put them back, or start a new run. To go on with what is there now all the same, remove {file}"
        )
    return True


def _changes(begun: Sequence[Fingerprint], found: Sequence[Fingerprint]) -> list[str]:
    """Returns a sentence for each input that is not as it was, in the order of the config."""
    before, now = _by_place(begun), _by_place(found)
    sentences = []
    for place in dict.fromkeys([*before, *now]):
        leaf, name, _ = place
        old, new = before.get(place), now.get(place)
        if old is None or new is None:
            sentences.append(f"{leaf}: {name} is {'no longer' if new is None else 'now'} named there")
        elif old.rows != new.rows:
            sentences.append(f"{leaf}: {name} has {new.rows} rows that can be used, {old.rows} when the run began")
        elif leaf == "model.path":
            sentences += _change_of_model(old, new)
        elif old.digest != new.digest:
            more = f" ({old.digest}, now {new.digest})" if new.rows is None else f", with as many rows ({new.rows})"
            sentences.append(f"{leaf}: {name} has other content than when the run began{more}")
    return sentences


def _change_of_model(old: Fingerprint, new: Fingerprint) -> list[str]:
    """Returns what has changed: nothing when it is another commit of a hub, and the same files are loaded of it."""
    digests = f"({old.digest}, now {new.digest})"
    try:
        if model_files.is_same(new.name, old.digest, new.digest):
            return []
    except ConnectionError as error:
        return [f"{new.leaf}: {new.name} may be another model {digests}, and its hub does not say if the two differ ({error})"]
    return [f"{new.leaf}: {new.name} has other content than when the run began {digests}"]


def _by_place(found: Sequence[Fingerprint]) -> dict[tuple[str, str, int], Fingerprint]:
    """Returns them by leaf, name and how often that name came before: a list may name a source twice."""
    by_place: dict[tuple[str, str, int], Fingerprint] = {}
    for each in found:
        count = sum(key[:2] == (each.leaf, each.name) for key in by_place)
        by_place[each.leaf, each.name, count] = each
    return by_place
