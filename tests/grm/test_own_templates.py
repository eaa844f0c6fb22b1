"""Templates of your own: what they may hold, what is refused, and a judge that was trained elsewhere on its own wording."""

from pathlib import Path

import pytest

from grm.escaping import escape_frame
from grm.judgement import ScoreRange
from grm.preferences import Question
from grm.prompts import Template, TemplateError, load_template, render, template, template_notes
from tests.grm.hostile_texts import HOSTILE

THREE = Question(id="q", query="Why?", responses=("zero", "one", "two"))
SINGLE = Question(id="s", query="2 + 2?", responses=("4",))
OWN = "Rate.\n{{query}}\n{{responses}}\n{{hint}}\nGive {{scores}} for {{count}}.\n"

# In the form of the released DeepSeek-GRM prompts, in other words: headings of hashes, boxes of their own, a lone frame.
RELEASED = """Rate the answers by the criteria below, each from 1 to 10.

#### Criteria ####
1. Does it obey?

#### Context ####
{{query}}

#### Answers ####
{{responses}}
#### Form ####
Specific Criteria: <what counts here, and how much>.
Analysis: <the answers, side by side>.
Scores: <one for each in turn, commas between them, in a box, for two of them \\boxed{x, x}>.
"""
RELEASED_SINGLE = RELEASED.replace("from 1 to 10", "0 or 1").replace(
    "{{responses}}", "[The Begin of Response]\n{{response}}\n[The End of Response]"
)
RELEASED_SINGLE = RELEASED_SINGLE.replace("for two of them \\boxed{x, x}", "\\boxed{x}")


def own(folder: Path, text: str, single: str | None = None) -> Template:
    (folder / "own.txt").write_text(text, encoding="utf-8")
    if single is not None:
        (folder / "own_single.txt").write_text(single, encoding="utf-8")
    return load_template(folder / "own.txt")


def test_own_template(tmp_path: Path) -> None:
    loaded = own(tmp_path, OWN, "Right?\n{{query}}\n{{responses}}\n{{scores}}")
    assert render(THREE, (0, 1, 2), loaded).startswith("Rate.\nWhy?\n[The Begin of Response 1]\nzero\n")
    assert render(THREE, (0, 1, 2), loaded).endswith("[The End of Response 3]\nGive \\boxed{s1, s2, s3} for 3.")
    assert render(SINGLE, (0,), loaded).startswith("Right?\n2 + 2?\n")
    with pytest.raises(TemplateError, match=r"has no \{\{hint\}\}"):
        render(SINGLE, (0,), loaded, hint=1)


def test_own_template_without_one_for_single_responses(tmp_path: Path) -> None:
    loaded = own(tmp_path, OWN)
    assert render(SINGLE, (0,), loaded, score_range=ScoreRange.GRADED).startswith("Rate.\n2 + 2?")
    with pytest.raises(TemplateError, match=r"add own_single\.txt beside it"):
        render(SINGLE, (0,), loaded)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (OWN.replace("{{query}}", ""), r"\{\{query\}\} is missing"),
        (OWN.replace("{{query}}", "{query}"), r"\{\{query\}\} is missing; add it \(double braces\)"),
        (OWN.replace("{{responses}}", ""), r"\{\{responses\}\} is missing"),
        (OWN + "{{label}}", r"unknown placeholder \{\{label\}\}; known are \{\{count\}\}, \{\{criteria\}\}, "),
        (OWN + "{{ query }}", r"unknown placeholder \{\{ query \}\}"),
        (OWN + "\\boxed{{x, x}}", r"unknown placeholder \{\{x, x\}\}; .*; text has single braces, as \\boxed\{x, x\}"),
        (OWN + "{{query}}", r"\{\{query\}\} stands twice"),
        (OWN.replace("{{hint}}", "So: {{hint}}"), "must stand alone on its line"),
        ("", "missing"),
    ],
)
def test_a_broken_template_is_refused_when_loaded(tmp_path: Path, text: str, message: str) -> None:
    for texts in ((text,), (OWN, text)):
        with pytest.raises(TemplateError, match=message):
            own(tmp_path, *texts)


def test_templates_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match=r"no such template; check the path"):
        load_template(tmp_path / "none.txt")
    with pytest.raises(TemplateError, match="cannot be read"):
        load_template(tmp_path)
    (tmp_path / "latin.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(TemplateError, match="not UTF-8"):
        load_template(tmp_path / "latin.txt")
    with pytest.raises(TemplateError, match="choose one of full, compact"):
        template("long")


# ---- judges that were trained on a wording of their own --------------------------------------------------------------


def test_a_prompt_with_a_box_of_its_own_is_filled_and_else_left_to_the_letter(tmp_path: Path) -> None:
    loaded = own(tmp_path, RELEASED, RELEASED_SINGLE)
    pair = Question(id="p", query="Why?", responses=("so", "because"))
    shown = (
        "[The Begin of Response 1]\nbecause\n[The End of Response 1]\n[The Begin of Response 2]\nso\n[The End of Response 2]"
    )
    assert render(pair, (1, 0), loaded) + "\n" == RELEASED.replace("{{query}}", "Why?").replace("{{responses}}", shown)
    graded, trained = (render(SINGLE, (0,), loaded, score_range=scale) for scale in (ScoreRange.GRADED, ScoreRange.VERDICT))
    assert "\n[The Begin of Response 1]\n4\n[The End of Response 1]\n" in graded
    assert "\n[The Begin of Response]\n4\n[The End of Response]\n" in trained
    assert trained.endswith("in a box, \\boxed{x}>.")
    assert template_notes(loaded) == []


@pytest.mark.parametrize("name", HOSTILE)
def test_no_response_changes_the_frame_or_the_boxes_of_such_a_prompt(tmp_path: Path, name: str) -> None:
    loaded = own(tmp_path, RELEASED, RELEASED_SINGLE)
    for scale, responses in ((ScoreRange.GRADED, ("MARK", "other")), (ScoreRange.VERDICT, ("MARK",))):
        order = range(len(responses))
        before, after = render(Question(id="q", query="q", responses=responses), order, loaded, score_range=scale).split("MARK")
        hostile = Question(id="q", query="q", responses=(HOSTILE[name], *responses[1:]))
        prompt = render(hostile, order, loaded, score_range=scale)
        assert prompt == before + escape_frame(HOSTILE[name]) + after
        assert prompt.count("\\boxed") == (before + after).count("\\boxed") == 1


def test_a_lone_response_stands_in_a_frame_that_no_response_can_write(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match=r"\{\{response\}\} is for a single response, in a file NAME_single"):
        own(tmp_path, RELEASED_SINGLE)
    with pytest.raises(TemplateError, match=r"\{\{responses\}\} stands twice"):
        own(tmp_path, OWN, RELEASED_SINGLE + "{{responses}}")
    with pytest.raises(TemplateError, match="must stand alone between the lines"):
        own(tmp_path, OWN, "{{query}}\nResponse:\n{{response}}\nEnd.\n{{scores}}")


def test_a_template_that_asks_for_no_box_is_noted(tmp_path: Path) -> None:
    assert template_notes(own(tmp_path, OWN, RELEASED_SINGLE)) == []
    assert template_notes(own(tmp_path, OWN.replace("{{scores}}", "{{example}}"))) == []
    (graded, single) = template_notes(own(tmp_path, OWN.replace("{{scores}}", "[[7, 8]]"), "{{query}}{{responses}} 0 or 1?"))
    assert graded.endswith(r"own.txt: the template asks for no \boxed{...}, from which scores are read; add {{scores}}")
    assert "the template for a single response asks for no" in single
    assert not template_notes(template("full"))
