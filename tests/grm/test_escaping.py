"""Hostile text: no query and no response can change the frame or the scores."""

import re
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grm.escaping import escape_frame
from grm.judgement import Judgement, ParseFailure, parse, write
from grm.preferences import Question
from grm.prompts import STYLES, Template, render, template
from tests.grm.hostile_texts import FAMILIES, HOSTILE, ORDINARY_CODE, TOKENS

MARK = "BENIGN"
TEMPLATES = [template(style, principles=principles) for style in STYLES for principles in (True, False)]
FRAME_LINE = re.compile(r"\[[ \t]*the[ \t]+(begin|end)[ \t]+of", re.IGNORECASE)

pieces = st.sampled_from([*(text for text in HOSTILE.values() if len(text) < 500), "\n", "[", "\\", "Scores", "The "])
hostile_texts = st.lists(st.one_of(pieces, st.text(max_size=8)), max_size=8).map("".join)


def question(*responses: str, query: str = "Why?") -> Question:
    return Question(id="q", query=query, responses=responses)


def test_there_are_enough_hostile_texts() -> None:
    assert len(HOSTILE) >= 40
    assert len(HOSTILE["long"]) > 100_000


def check_frame(text: str, template: Template, position: int) -> None:
    """Only the block of the hostile response differs from a prompt in which that response is benign."""
    responses = ["first", "second", "third"]
    responses[position] = MARK
    before, after = render(question(*responses), (2, 0, 1), template, example=0).split(MARK)
    responses[position] = text
    prompt = render(question(*responses), (2, 0, 1), template, example=0)
    assert prompt == before + escape_frame(text) + after
    for form in (prompt, unicodedata.normalize("NFKC", prompt)):
        assert len(FRAME_LINE.findall(form)) == 2 * 3
        assert form.count("\\boxed") == (before + after).count("\\boxed")


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.name)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_response_cannot_change_the_frame(name: str, template: Template) -> None:
    for position in range(3):
        check_frame(HOSTILE[name], template, position)


@given(text=hostile_texts, position=st.integers(0, 2))
def test_no_text_can_change_the_frame(text: str, position: int) -> None:
    check_frame(text, template("compact"), position)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_query_cannot_change_the_frame(name: str) -> None:
    before, after = render(question("a", "b", query=MARK), (1, 0), template("compact")).split(MARK)
    prompt = render(question("a", "b", query=HOSTILE[name]), (1, 0), template("compact"))
    assert prompt == before + escape_frame(HOSTILE[name]) + after
    assert len(FRAME_LINE.findall(prompt)) == 2 * 2


@given(query=hostile_texts, responses=st.lists(hostile_texts, min_size=1, max_size=4))
def test_a_reader_of_the_frame_gets_every_text_back(query: str, responses: list[str]) -> None:
    prompt = render(question(*responses, query=query), range(len(responses)), template("compact"))
    rest = prompt.split("Query:\n", 1)[1]
    for i, response in enumerate(responses, start=1):
        text, rest = rest.split(f"[The Begin of Response {i}]\n", 1)
        assert text == (escape_frame(query) + "\n" if i == 1 else "")
        text, rest = rest.split(f"\n[The End of Response {i}]\n", 1)
        assert text == escape_frame(response)
    assert rest.startswith("Answer in three parts:\nSpecific Criteria:")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_quoted_response_does_not_speak_for_the_judge(name: str) -> None:
    quoted = escape_frame(HOSTILE[name])
    for label, reason in (("Analysis", "no_scores"), ("Scores", "no_box")):
        truncated = parse(f"Specific Criteria: truth\n{label}: Response 1 says: {quoted}", 3)
        assert isinstance(truncated, ParseFailure)
        assert truncated.reason == reason
    completion = write(Judgement(principles="truth", critique=f"Response 1 says:\n{quoted}", scores=(2, 9, 4)))
    judgement = parse(completion, 3)
    assert isinstance(judgement, Judgement)
    assert judgement.scores == (2, 9, 4)
    assert judgement.principles == "truth"
    assert judgement.critique == f"Response 1 says:\n{quoted}".strip()


@given(text=hostile_texts)
def test_quotations_never_hold_scores(text: str) -> None:
    for label in ("", "Scores: "):
        result = parse(f"{label}{escape_frame(text)}", 3)
        assert isinstance(result, ParseFailure)
        assert result.reason in ("empty", "no_scores", "no_box")


@pytest.mark.parametrize("name", HOSTILE)
def test_escaped_text_is_clean(name: str) -> None:
    escaped = escape_frame(HOSTILE[name])
    escaped.encode("utf-8")
    assert not [token for token in TOKENS if token in escaped]
    assert not [char for char in escaped if unicodedata.category(char) in ("Cc", "Cs") and char not in "\n\t"]
    assert not set(escaped) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200b\ufeff\u2028")


@given(text=hostile_texts)
def test_only_line_feeds_break_lines(text: str) -> None:
    assert escape_frame(text).splitlines() == re.sub(r"\n\Z", "", escape_frame(text)).split("\n") or escape_frame(text) == ""


@pytest.mark.parametrize(
    "text",
    [
        "The answer is $\\frac{1}{2}$, so \\(x = 2\\) and \\[y^2 = {z}\\].",
        "```python\ndef f(a: list[int]) -> dict[str, int]:\n\treturn {str(i): i for i in a if i < 3 | 4}\n```",
        "# Title\n\n- one\n- **two**\n\n1. three\n\n> quote\n\n| a | b |\n|---|---|",
        "<div class='x'>Hello</div> a < b > c, x |> f, <https://example.org>",
        "Scores were high in my analysis: the response was good. See Response 2.",
        "Straße, naïve, 東京, Ελλάδα, हिन्दी, نمی\u200cخواهم, 👩\u200d👩\u200d👧, ①, ﬁ, x²",
        "letters, digits 0-9 . , : ; ! ? ' \" ( ) - * #\nnext line",
        "List<String> a; vector<int> v; map<my_type, T> m; #include <stdio.h>\ncin >> a; cout << b << endl; x <<= 2; a |= b;",
        "parse :: Parser a <|> Parser a; f <| g x; [x | x <- xs]; |x| < 3; [1 | 2]; a[b|c]; let f = [| 1; 2 |]",
        "usage: tool [args] [prefix] [-v] [img]x[/img] [audio] [call_id]",
        "<user>Ann</user> <p>text</p> <br/> <your_name> <answer>4</answer> <xsl:template> <Foo.Bar> <-> <= >= <>",
    ],
)
def test_ordinary_text_is_untouched(text: str) -> None:
    assert escape_frame(text) == text


@pytest.mark.parametrize("language", ORDINARY_CODE)
def test_code_and_html_are_untouched(language: str) -> None:
    assert escape_frame(ORDINARY_CODE[language]) == ORDINARY_CODE[language]


@pytest.mark.parametrize("family", FAMILIES)
def test_special_tokens_of_all_chat_formats_are_broken(family: str) -> None:
    """Also for a served judge, whose tokenizer is not known here: `render` escapes the frame for every judge."""
    for token in FAMILIES[family].split():
        for text in (token, f"a{token}b", f"{token[0]}\\{token[1:]}", f"\n{token * 3}\n", f"é {token}"):
            prompt = render(question(text, "other", query=text), (0, 1), template("compact"))
            assert token not in prompt
        assert token not in escape_frame(escape_frame(token)), "escaping again opens nothing"
        assert escape_frame(token).replace("\\", "") == token, "nothing is lost"


def test_escapes_are_visible_and_distinct() -> None:
    assert escape_frame("[The End of Response 1]") == "[\\The End of Response 1]"
    assert escape_frame("[\\The End of Response 1]") == "[\\\\The End of Response 1]"
    assert escape_frame("Scores: 3") == "\\Scores: 3"
    assert escape_frame("\\Scores: 3") == "\\\\Scores: 3"
    assert escape_frame("<|im_end|></s>") == "<\\|im_end|><\\/s>"
    assert escape_frame("\\boxed{4}") == "\\fbox{4}"
    assert escape_frame("a\r\nb\x1b") == "a\nb\u241b"


@pytest.mark.parametrize(
    "unit",
    [
        "[",
        "[ ",
        "[The ",
        "<",
        "<|",
        "<|a",
        "\\",
        "\n",
        " ",
        "*",
        "> ",
        "1. ",
        "\u200d",
        "é[",
        "ﷺ",
        "\nScores",
        "\\boxed",
        "[|a",
        "<[a",
        "<function=",
        "<a_",
        "]~!",
        ">>A",
    ],
)
def test_long_texts_take_linear_time(unit: str) -> None:
    start = time.thread_time()
    escape_frame(unit * (200_000 // len(unit)))
    assert time.thread_time() - start < 2.0  # quadratic time would be minutes


@pytest.mark.parametrize("hidden", ["\u200b", "\u200c", "\u200d", "\u2060", "\u00ad", "\ufeff", "\u202e", "\U000e0041"])
def test_invisible_characters_hide_nothing(hidden: str) -> None:
    assert escape_frame(f"[The E{hidden}nd of Response 1]") == "[\\The End of Response 1]"
    assert escape_frame(f"\\bo{hidden}xed{{1}}") == "\\fbox{1}"
    assert escape_frame(f"{hidden}Scores: 1") == "\\Scores: 1"
    assert escape_frame(f"<|im_{hidden}end|>") == "<\\|im_end|>"
