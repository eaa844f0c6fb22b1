"""Prompts: the one user message in which the policy reads a query and its shuffled responses.

A template is a text file. Every placeholder is written in double braces and stands at most once:

    {{query}}      the query                                                                       required
    {{responses}}  [The Begin of Response 1] ... [The End of Response 1], and so on, on own lines   required
    {{response}}   in NAME_single.txt, for {{responses}}: the text alone, between frame lines of yours
    {{scores}}     \\boxed{s1, s2} with one place per response; or write a \\boxed{x, x} of your own
    {{hint}}       alone on its line: the best response in hinted sampling, else the line vanishes
    {{example}}    a short judgement of n responses, of which the one at a drawn place is best
    {{count}}      the number of responses
    {{reference}}  alone on its line: [The Begin of Reference] ... [The End of Reference]; without one the line vanishes
    {{criteria}}   the same of the criteria to judge by

A question's reference and criteria stand behind the query in a template that has no place for them.

`NAME.txt` asks for scores 1..10 and serves every n; `NAME_single.txt` beside it asks for 0 or 1 and serves n = 1 in training.
Shipped templates have a twin, `NAME_unprincipled.txt`, that asks for no principles. Query and responses pass through
`grm.escaping.escape_frame`, and placeholders are filled in one pass, so that no text of others can become frame.

A weak model copies the order of an example. So the example's best place is drawn for each prompt (`example_place`) and tells
nothing of the label (I6). In hinted sampling it is the label's: the example is then right, and the judgement is learnt under
the plain prompt, whose example was drawn.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from grm.escaping import escape_frame
from grm.judgement import Judgement, ScoreRange, training_score_range, write
from grm.preferences import Question

STYLES = ("full", "compact", "example")
REQUIRED = frozenset({"query", "responses"})
VANISHING = ("hint", "reference", "criteria")  # alone on its line, and without it where there is nothing
KNOWN = REQUIRED | {"scores", "example", "count", *VANISHING}
LONE = "response"  # may stand in a template for a single response

_PLACEHOLDER = re.compile(r"\{\{([^{}\n]*)\}\}(\n?)")
_FRAMED = re.compile(r"^\[The Begin of [^\n\]]*\]\n\{\{response\}\}\n\[The End of [^\n\]]*\]$", re.MULTILINE)
_ASKS_FOR_A_BOX = re.compile(r"\\boxed|\{\{(?:scores|example)\}\}")


class TemplateError(ValueError):
    """A template cannot be used; names the file, the placeholder and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A checked template, in its two forms."""

    name: str
    """Name of a shipped template, or path."""
    graded: str
    """Text that asks for scores 1..10."""
    verdict: str | None
    """Text that asks for 0 or 1 for a single response; None: n = 1 cannot be rendered in training."""


def template(style: str, *, principles: bool = True) -> Template:
    """Return a shipped template.

    Args:
        style: `full` for language models, `compact` for small ones that were taught the format, `example` for small ones that
            can only imitate: it shows a judgement instead of describing one.
        principles: False: the same template for critique and scores only, for the paper's ablation.
    """
    if style not in STYLES:
        raise TemplateError(f"no prompt style {style!r}; choose one of {', '.join(STYLES)}")
    name = style if principles else f"{style}_unprincipled"
    folder = resources.files("grm") / "templates"
    graded = (folder / f"{name}.txt").read_text(encoding="utf-8")
    verdict = (folder / f"{name}_single.txt").read_text(encoding="utf-8")
    return Template(name=name, graded=_checked(graded, name), verdict=_checked(verdict, f"{name}_single", single=True))


def load_template(path: str | Path) -> Template:
    """Return your own template: `path`, and `<stem>_single<suffix>` beside it for training on n = 1."""
    path = Path(path)
    single = path.with_name(f"{path.stem}_single{path.suffix}")
    verdict = _checked(_read(single), str(single), single=True) if single.exists() else None
    return Template(name=str(path), graded=_checked(_read(path), str(path)), verdict=verdict)


def load_meta_template(path: str | Path) -> Template:
    """Return the template of a meta-RM's user message: query and responses alone. The judgement is the assistant's turn."""
    text = _checked(_read(Path(path)), str(path))
    for placeholder in ("scores", "hint", "example"):
        if f"{{{{{placeholder}}}}}" in text:
            raise TemplateError(
                f"{path}: {{{{{placeholder}}}}} is for a judge, and a meta-RM reads what a judge wrote; remove it"
            )
    return Template(name=str(path), graded=text, verdict=None)


def template_notes(template: Template) -> list[str]:
    """Return what is odd about a template and may be meant, a sentence each."""
    return [
        f"{template.name}: the template{kind} asks for no \\boxed{{...}}, from which scores are read; add {{{{scores}}}}"
        for kind, text in (("", template.graded), (" for a single response", template.verdict))
        if text is not None and not _ASKS_FOR_A_BOX.search(text)
    ]


def example_place(n: int, salt: str) -> int:
    """Return the shown place, from 0, of the best response in an example of n; n = 1: whether it is right, 0 or 1.

    Args:
        n: Number of responses, at least 1.
        salt: What the draw depends on; never the label (I6).
    """
    return random.Random(f"example/{salt}").randrange(max(2, n))


def render(
    question: Question,
    permutation: Sequence[int],
    template: Template,
    *,
    hint: int | None = None,
    example: int | None = None,
    score_range: ScoreRange | None = None,
    escape_special_tokens: Callable[[str], str] = str,
) -> str:
    """Return the user message that asks for a judgement of `question`.

    Args:
        question: Query and responses.
        permutation: permutation[shown position] = index of the response.
        template: The template.
        hint: In the cold start only. n >= 2: shown position of the best response, from 0; n = 1: the label, 0 or 1.
        example: The `example_place`, for a template with {{example}}. With a hint, the example is the hint's instead.
        score_range: By default that of training: 0/1 for n = 1 and 1..10 otherwise. Votes use GRADED for every n.
        escape_special_tokens: Escapes the special tokens of the tokenizer that will read the message. It is applied after
            `escape_frame`, which may remove characters that kept a token apart.
    """
    n = len(question.responses)
    if sorted(permutation) != list(range(n)):
        raise ValueError(f"{tuple(permutation)} is not an order of {n} responses")

    def escaped(text: str) -> str:
        return escape_special_tokens(escape_frame(text))

    shown = [escaped(question.responses[own]) for own in permutation]
    values = {
        "query": escaped(question.query),
        "responses": "\n".join(_block(f"Response {i}", response) for i, response in enumerate(shown, start=1)),
        LONE: shown[0],
        "scores": "\\boxed{" + ", ".join(f"s{i}" for i in range(1, n + 1)) + "}",
        "count": str(n),
    }
    score_range = score_range or training_score_range(n)
    text = _text(template, n, score_range)
    if hint is not None and "{{hint}}" not in text and "{{example}}" not in text:
        raise TemplateError(f"{template.name}: has no {{{{hint}}}}; add it, alone on a line, for hints")
    if "{{example}}" in text:
        values["example"] = _example(example if hint is None else hint, n, score_range)
    values["hint"] = "" if hint is None else _hint(hint, n)
    for name, block in _beside_the_query(question, escaped).items():
        if f"{{{{{name}}}}}" in text:
            values[name] = block
        elif block:
            values["query"] += f"\n{block}"

    def filled(match: re.Match[str]) -> str:
        value = values[match[1]]
        return value + match[2] if value or match[1] not in VANISHING else ""

    return _PLACEHOLDER.sub(filled, text)


def _block(name: str, text: str) -> str:
    return f"[The Begin of {name}]\n{text}\n[The End of {name}]"


def _beside_the_query(question: Question, escaped: Callable[[str], str]) -> dict[str, str]:
    """Return the framed reference and criteria; "" where there is none. More than one criterion are numbered."""
    items = [escaped(criterion) for criterion in question.criteria]
    criteria = "\n".join(f"{i}. {item}" for i, item in enumerate(items, start=1)) if len(items) > 1 else "".join(items)
    return {
        "reference": _block("Reference", escaped(question.reference)) if question.reference else "",
        "criteria": _block("Criteria", criteria) if criteria else "",
    }


def _hint(hint: int, n: int) -> str:
    if not 0 <= hint < max(2, n):
        raise ValueError(f"hint {hint} is not in 0..{max(2, n) - 1}")
    if n == 1:
        return f"Hint: the response is {'right' if hint else 'wrong'}."
    return f"Hint: Response {hint + 1} is the best."


def _example(place: int | None, n: int, score_range: ScoreRange) -> str:
    """Return a judgement without principles: `Analysis: Response 1 is wrong. Response 2 is right.`, `Scores: \\boxed{2, 9}`."""
    if place is None:
        raise ValueError("the template shows an example: draw its best place (example_place)")
    right = [place == 1] if n == 1 else [shown == place for shown in range(n)]
    high, low = (9, 2) if score_range is ScoreRange.GRADED else (1, 0)
    critique = " ".join(f"Response {i} is {'right' if each else 'wrong'}." for i, each in enumerate(right, start=1))
    return write(Judgement(principles="", critique=critique, scores=tuple(high if each else low for each in right)))


def _text(template: Template, n: int, score_range: ScoreRange) -> str:
    if score_range is ScoreRange.GRADED:
        return template.graded
    if n != 1:
        raise ValueError(f"the 0/1 scale is for a single response, not for {n}")
    if template.verdict is None:
        path = Path(template.name)
        single = f"{path.stem}_single{path.suffix}"
        raise TemplateError(f"{template.name}: no template for n = 1 scored 0 or 1; add {single} beside it")
    return template.verdict


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise TemplateError(f"{path}: no such template; check the path") from None
    except UnicodeDecodeError:
        raise TemplateError(f"{path}: not UTF-8; save the template as UTF-8") from None
    except OSError as error:
        raise TemplateError(f"{path}: cannot be read ({error.strerror}); give a text file") from None


def _checked(text: str, name: str, *, single: bool = False) -> str:
    """Return `text` without its last newline, after checking its placeholders; `single`: it is for a single response."""
    placeholders = [match[1] for match in _PLACEHOLDER.finditer(text)]
    lone = single and LONE in placeholders
    for placeholder in placeholders:
        if placeholder == LONE and not single:
            raise TemplateError(
                f"{name}: {{{{response}}}} is for a single response, in a file NAME_single; write {{{{responses}}}}"
            )
        if placeholder not in KNOWN | {LONE}:
            known = ", ".join(f"{{{{{known}}}}}" for known in sorted(KNOWN))
            braces = "; text has single braces, as \\boxed{x, x}" if f"boxed{{{{{placeholder}}}}}" in text else ""
            raise TemplateError(f"{name}: unknown placeholder {{{{{placeholder}}}}}; known are {known}{braces}")
        if placeholders.count(placeholder) > 1 or (lone and placeholder == "responses"):
            raise TemplateError(f"{name}: {{{{{placeholder}}}}} stands twice; keep one")
    for required in sorted(REQUIRED - set(placeholders) - ({"responses"} if lone else set())):
        raise TemplateError(f"{name}: {{{{{required}}}}} is missing; add it (double braces)")
    if lone and not _FRAMED.search(text):
        frame = "[The Begin of Response] and [The End of Response]"
        raise TemplateError(f"{name}: {{{{response}}}} must stand alone between the lines {frame}, which no response can write")
    for vanishing in VANISHING:
        if vanishing in placeholders and f"{{{{{vanishing}}}}}" not in text.split("\n"):
            raise TemplateError(
                f"{name}: {{{{{vanishing}}}}} must stand alone on its line: the line vanishes where there is none"
            )
    return text.removesuffix("\n")
