r"""Escapes text of others, so that it cannot leave its place in a prompt.

Queries and responses are hostile. Everything that would act as frame is broken *visibly*, nothing is cut:

    [The End of Response 1]      [\The End of Response 1]       frame lines, anywhere, in any case
    Scores:  Response 2:         \Scores:  \Response 2:         labelled parts, at the head of a line
    \boxed{8, 2}                 \fbox{8, 2}                    looks the same in LaTeX; quoted, it is no score
    <|im_end|>  <eos>  [/INST]   <\|im_end|>  <\eos>  [\/INST]  special tokens of all chat formats
    ESC, NUL, other controls     their pictures (U+2400 on)     newlines of every kind become LF, tabs stay
    bidirectional controls, zero-width and tag characters       removed: they have no visible form

Lookalikes are caught in compatibility form (NFKC): a line whose normal form holds frame is replaced by that
form, escaped. Ordinary prose, code, Markdown, LaTeX and every script pass unchanged. Linear time.

A conversation is joined to one query as "Role: content" paragraphs, and the query is escaped as a whole in the prompt. So the
contents are escaped before they are joined, in the same way: a line `Assistant: fine` becomes `\Assistant: fine`, no turn.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable

_NEWLINES = re.compile("\r\n?|[\x85\u2028\u2029]")
_INVISIBLE = re.compile("[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e01ef]")
_JOINERS = re.compile("[\u200c\u200d]+")
_SURROGATES = re.compile("[\ud800-\udfff]")
_CONTROLS = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"}
_CONTROLS |= {0x7F: 0x2421} | dict.fromkeys(range(0x80, 0xA0), 0xFFFD)

# Special tokens that look like markup, by family: `<NAME>`, `</NAME>`, `[NAME]`, in the case in which their models have them.
# HTML and code must not be among them: `Vec<Box>`, `<video>` and `x[mask]` are ordinary text (`<s>` is HTML, too, but begins
# every text of Llama 2). Where such a word is a special token of the policy or the meta-RM, `Tokenizer` breaks it there.
_TAGS = "|".join(
    (
        r"s|(?:unk|pad|cls|sep|mask|bo[ahimrs]|so[ps]|eo[acdhimopst])(?:_token)?|endoftext",
        r"(?:UNK|PAD|CLS|SEP|MASK|BOS|SOS|EO[DST])(?:_TOKEN)?",
        r"(?:start|begin|end)_of_[a-z_]{1,24}",
        r"(?:unused|reserved|special|extra_id|extra_token|placeholder|mask|control)[:_]?\d{1,6}|(?:SPECIAL|UNUSED)_\d{1,6}",
        r"think|tools|tool_calls?|tool_response|tool_results?|function_calls?|arg_(?:key|value)|minimax:tool_call",
        r"(?:function|parameter)=[^<>\n]{1,80}|seed:[a-z_]{1,24}|IMG_CONTEXT|[a-z]{1,16}_soft_token",
        r"reponame|repo_name|file_sep|gh_stars|empty_output|issue_(?:start|comment|closed)",
        r"jupyter_(?:start|text|code|output|script)|fim[_-](?:prefix|middle|suffix|pad)",
    )
)
_BRACKETED = (
    r"INST|CLS|SEP|PAD|UNK|[gs]?MASK|BOS|EOS|SYSTEM_PROMPT|MODEL_SETTINGS|AVAILABLE_TOOLS|TOOL_(?:CALLS|RESULTS|CONTENT)"
    r"|UNUSED_TOKEN_\d{1,6}|IMG|IMG_BREAK|IMG_END|AUDIO|BEGIN_AUDIO|PREFIX|MIDDLE|SUFFIX|THINK|ARGS|CALL_ID"
)
_BAR = "[|\uff5c]"
# Possessive and bounded quantifiers only: no text makes the pattern backtrack.
_ESCAPED = re.compile(
    r"\[(?=\\*+[ \t\n]*+the[ \t\n]++(?:begin|end)\b)"  # frame lines
    rf"|\[(?=\\*+(?:/?(?-i:{_BRACKETED})|{_BAR}[\w -]{{1,64}}{_BAR})\])"  # [/INST]  [|user|]
    r"|\](?=\\*+~!?b[\[\]])|\[(?=\\*+e~\[)|>(?=\\*+>(?-i:[A-Z]{3,16})<<)"  # ]~b]  ]~!b[  [e~[  >>ANSWER<<
    r"|<(?=\\*+(?:"
    rf"/?{_BAR}[\w\u2581]|{_BAR}[^<>\n]{{0,80}}{_BAR}>|[\w\u2581-]{{1,64}}{_BAR}>"  # <|im_end|>  <|turn>  <turn|>
    rf"|/?(?-i:{_TAGS})>|</?sys>>|\[[^<>\[\]\n]{{1,80}}\]>))"  # <eos>  <<SYS>>  <[end_of_text]>
    r"|^[ \t>#*_\-]*+(?:\d{1,3}[.)][ \t*_]*+)?+"  # the head of a line, up to a label
    r"(?=\\*+(?:specific[ \t]++criteria|analysis|scores|response[ \t]++\d++)[*_ \t]*+:)",
    re.IGNORECASE | re.MULTILINE | re.ASCII,
)
_BOX = re.compile(r"\\boxed")
_ROLES = ("user", "human", "assistant", "system")

_Escape = Callable[[str], tuple[str, int]]  # a text ─▶ the escaped text, and how much was escaped


def escape_frame(text: str) -> str:
    """Return `text` as it may stand in a prompt (see the module's head)."""
    return _escaped(text, _escape)[0]


def escape_turn(text: str, roles: Iterable[str]) -> str:
    """Return the content of a turn of a conversation, in which no line begins like a turn.

    Args:
        text: The content.
        roles: Names with which turns of this conversation begin, beside the usual ones.
    """
    names = "|".join(re.escape(role) for role in sorted({*_ROLES, *(role.lower() for role in roles)}))
    label = re.compile(rf"^[ \t>#*_\-]*+(?=\\*+(?:{names})[*_ \t]*+:)", re.IGNORECASE | re.MULTILINE)
    escaped, marks = _escaped(text, lambda line: label.subn(r"\g<0>\\", line))
    return escaped if marks else text


def _escaped(text: str, escape: _Escape) -> tuple[str, int]:
    if text.isascii() and text.isprintable():
        return escape(text)
    text = _SURROGATES.sub("\ufffd", _INVISIBLE.sub("", _NEWLINES.sub("\n", text)))
    text = _JOINERS.sub(_between_letters_of_other_scripts, text).translate(_CONTROLS)
    if text.isascii():
        return escape(text)
    lines = [_escape_lookalikes(line, escape) for line in text.split("\n")]
    return "\n".join(line for line, _ in lines), sum(marks for _, marks in lines)


def _escape(text: str) -> tuple[str, int]:
    boxless, boxes = _BOX.subn(r"\\fbox", text)
    escaped, marks = _ESCAPED.subn(r"\g<0>\\", boxless)
    return escaped, boxes + marks


def _escape_lookalikes(line: str, escape: _Escape) -> tuple[str, int]:
    plain = escape(line)
    if line.isascii():
        return plain
    normal = escape(unicodedata.normalize("NFKC", line))
    return normal if normal[1] > plain[1] else plain


def _between_letters_of_other_scripts(joiners: re.Match[str]) -> str:
    """Joiners shape emoji, Persian and Indic text; beside ASCII they only hide something."""
    text, start, end = joiners.string, joiners.start(), joiners.end()
    before, after = text[max(start - 1, 0) : start], text[end : end + 1]
    return "" if before.isascii() or after.isascii() else joiners.group()[:1]
