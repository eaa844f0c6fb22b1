"""Fields of a row that the judge is shown beside the query, because `prompts.show` names them: how many rows have them.

A reference or criteria are no label (I6). But a reference that is one of the responses, word for word, names the best one.
"""

from collections.abc import Sequence

from configs.load import ConfigError
from configs.schema import Config
from grm.preferences import Question
from launch.setup.preference_data import PreferenceData


def require_shown(config: Config, data: PreferenceData) -> None:
    """ConfigError when `prompts.show` names a field that no row has."""
    for field in config.prompts.show:
        if not _having(data, field):
            raise ConfigError(f"prompts.show: no row of {data.leaf} has a field {field!r}; add it, or do not name it there")


def shown_notes(config: Config, data: Sequence[PreferenceData]) -> list[str]:
    """Returns a sentence for each field and source of preferences: how many rows have it, and what to beware of."""
    notes = []
    for field in config.prompts.show:
        for each in data:
            having = _having(each, field)
            same = sum(question.reference in question.responses for question in having) if field == "reference" else 0
            beware = f"; in {same} of them it is one of the responses, word for word, which names the label" if same else ""
            notes.append(
                f"prompts.show: {len(having)} of {len(each.preferences)} rows of {each.leaf} have the field {field}{beware}"
            )
    return notes


def _having(data: PreferenceData, field: str) -> list[Question]:
    return [p.question for p in data.preferences if getattr(p.question, field)]
