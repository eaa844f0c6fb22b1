"""The fields of a chat request that a server takes: one that it refuses is renamed or left out from then on, and that is said.

wanted fields ─▶ fitted ─▶ request ─▶ refused: "'max_tokens' is not supported ..." ─▶ adapt ─▶ asked again with other fields
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from launch.judging.endpoint_errors import Said

RENAMED = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
KEPT = ("model", "messages", "logprobs", "top_logprobs")  # without these the request would be another one
_WORDS = re.compile(
    r"unsupported|support|unknown|unrecogni[sz]ed|unexpected|permitted|allowed|extra|forbidden|invalid|cannot find|not a valid"
    r"|deprecated|no longer|must be|should be|use ['\"`]?max_",
    re.IGNORECASE,
)
_TOO_LONG = re.compile(r"context (?:length|window)|too (?:large|long)|maximum (?:context|input)|exceed", re.IGNORECASE)
_VALUE = re.compile(
    r"(?:must|should) be|at (?:most|least)|between|(?:less|greater|more|larger|smaller|higher|lower) than|[<>]", re.IGNORECASE
)
_CONTENT = re.compile(r"moderat|flagged|content[ _](?:policy|filter|management)|safety|inappropriate", re.IGNORECASE)
_MEANING = {
    "temperature": "it samples at a temperature of its own: greedy judgements are no longer greedy",
    "seed": "the same request may get another answer",
    "n": "each vote is asked for by a request of its own",
    "use_activation": "scores are shares of 0..1, and near ones tie",
}


@dataclass(frozen=True, slots=True)
class Change:
    """What is asked otherwise than it was meant."""

    text: str
    """In a sentence."""
    matters: bool
    """Whether the figures may depend on it."""


class RequestFields:
    """What one server was found to take."""

    def __init__(self, note: Callable[[Change], None]) -> None:
        """`note` gets each change."""
        self._note = note
        self._left_out = set[str]()
        self._renamed = dict[str, str]()
        self.single = False
        """Whether each answer is asked for by a request of its own."""

    def fitted(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields as this server takes them."""
        return {self._renamed.get(name, name): value for name, value in wanted.items() if name not in self._left_out}

    def adapt(self, words: Said, sent: Mapping[str, Any]) -> bool:
        """Return whether the request is worth sending again: a field of it that the server refused is now another, or gone."""
        name = refused_field(words, sent)
        if name is None:
            return False
        if name in self._left_out or name in self._renamed:
            return True  # another request was refused before
        first = next((own for own, other in self._renamed.items() if other == name), None)
        if name in RENAMED and RENAMED[name] not in sent and first is None:
            self._renamed[name] = RENAMED[name]
            self._say(f"the server refuses {name}: {RENAMED[name]} is sent in its place", matters=False)
            return True
        if name in RENAMED:
            return False  # neither name is taken, and without a limit an answer could be of any length
        self._left_out.add(name)
        self.single = self.single or name == "n"
        self._say(
            f"the server refuses {name}, which is left out: {_MEANING.get(name, 'its own default counts')}", matters=name != "n"
        )
        return True

    def one_at_a_time(self) -> None:
        """Ask for one answer a request from now on: the server refuses or ignores n > 1."""
        if not self.single:
            self.single = True
            self._say(f"the server does not give several answers to a request (n): {_MEANING['n']}", matters=False)

    def _say(self, change: str, *, matters: bool) -> None:
        self._note(Change(change, matters))


def refused_field(words: Said, sent: Mapping[str, Any]) -> str | None:
    """Return the field of a request that a server's refusal names; None where it objects to something else.

    A refusal names a field by `param`, or by its name between quotes, or by its name in a sentence about what is supported. One
    about the model's context or about what is written in the prompt is about the prompt, whatever it names. One about the
    value of a limit is not about the field: a server that ignores the field's other name would know no limit.

    >>> refused_field(Said(text="Unsupported parameter: 'max_tokens' is not supported with this model."), {"max_tokens": 9})
    'max_tokens'
    """
    if any(each.search(words.text) for each in (_TOO_LONG, _CONTENT)) or _CONTENT.search(words.code):
        return None
    of_value = bool(_VALUE.search(words.text))
    names = [name for name in sent if name not in KEPT and not (of_value and name in RENAMED)]
    if words.param.partition(".")[0] in names:
        return words.param.partition(".")[0]
    if not _WORDS.search(words.text):
        return None
    quoted = [name for name in names if re.search(rf"['\"`]{re.escape(name)}['\"`]", words.text)]
    plain = [name for name in names if len(name) > 1 and re.search(rf"\b{re.escape(name)}\b", words.text)]
    found = sorted(quoted or plain, key=words.text.index)
    return found[0] if found else None
