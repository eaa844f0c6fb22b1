"""Tokenizers and chat formats of other people: the right ids, or one sentence before anything starts."""

import logging
import re
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from configs.load import ConfigError
from launch.setup import chat_frame
from launch.setup.model_files import TINY
from launch.setup.tokenizer import Tokenizer
from tests.launch.setup.chat_templates import GEMMA, MESSAGE, THINKING, TURNS, loaded, reference
from tests.random_models import CHATML
from tests.small_tokenizers import INST, PARTS, USER_ALONE, make

BOS, EOS, START, END, PAD = range(5)
OPENED = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}:{% if m['role'] == 'user' %}{{ m['content'] }}"
    "{% else %}<go>{{ m['content'] }}</go>{% endif %}<|im_end|>{% endfor %}<|im_start|>assistant:"
)


FORMATS: dict[str, dict[str, Any]] = {
    "ChatML": {"template": CHATML, "eos": "<|im_end|>"},
    "a template that trims, and ends where the answer begins": {"template": INST},
    "turns that end in another token than the text": {**TURNS, "template": GEMMA, "generation_eos": [EOS, END]},
    "a template that can think": {"template": THINKING, "eos": "<|im_end|>"},
    "a template of one user message": {"template": USER_ALONE},
    "several templates, one of them the default": {
        "template": [{"name": "tool_use", "template": "{{ tools[0] }}"}, {"name": "default", "template": CHATML}]
    },
    "content as a list of parts": {"template": PARTS, "eos": "<|im_end|>"},
    "a tokenizer that adds the beginning, as its template does": {"template": INST, "adds": "<s> $A"},
    "a tokenizer that adds an end": {"template": INST, "adds": "<s> $A </s>"},
    "a format whose answers the model opens itself": {"template": OPENED, "words": ["<go>", "</go>"]},
    "no padding": {"template": CHATML, "pad": None},
    "no beginning": {"template": CHATML, "bos": None},
    "an end that the generation config alone names": {"template": CHATML, "eos": None, "generation_eos": END},
    "an end that the config alone names": {"template": CHATML, "eos": None, "config_eos": END},
    "a padded embedding": {"template": CHATML, "rows": 320},
    "added tokens": {"template": CHATML, "words": ["[The Begin of Response 1]", " Response"]},
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_ids_of_a_prompt_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    how = FORMATS[name]
    tokenizer = loaded(tmp_path, **how)
    ids = tokenizer.encode(MESSAGE)
    assert ids == reference(tmp_path, parts=how["template"] == PARTS)
    assert MESSAGE.strip() in tokenizer.decode(ids), "the prompt holds the message"
    assert ids.count(BOS) == (1 if how["template"] in (INST, GEMMA) else 0), "one beginning, where the format has one"


@pytest.mark.parametrize("name", [name for name in FORMATS if FORMATS[name]["template"] not in (USER_ALONE, INST, OPENED)])
def test_a_prompt_and_its_completion_are_the_whole_chat(name: str, tmp_path: Path) -> None:
    """What is learnt from text ends as the chat format ends an answer, in a token at which the engine stops."""
    how = {"generation_eos": [EOS, END]} | FORMATS[name]
    tokenizer = loaded(tmp_path, **how)
    together = (*tokenizer.encode(MESSAGE), *tokenizer.completion("Scores: 1"))
    whole = reference(tmp_path, parts=how["template"] == PARTS, answer="Scores: 1")
    assert whole[: len(together)] == together
    assert together[-1] == END
    assert tokenizer.decode(together).endswith("Scores: 1")
    assert tokenizer.completion("Scores: 1", ended=False) == tokenizer.completion("Scores: 1")[:-1]


THOUGHTS = CHATML.replace(  # as Qwen3: the last answer has an empty thought, earlier ones have none
    "{{ m['content']", "{% if m['role'] == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m['content']"
)


@pytest.mark.parametrize("name", [*(name for name in FORMATS if FORMATS[name]["template"] != USER_ALONE), "thoughts"])
def test_a_whole_chat_has_the_ids_of_transformers(name: str, tmp_path: Path) -> None:
    """As a scalar reward model reads a response: to the very end of what the template writes behind it."""
    how = FORMATS.get(name, {"template": THOUGHTS, "eos": "<|im_end|>"})
    tokenizer = loaded(tmp_path, **how)
    form = (lambda text: [{"type": "text", "text": text}]) if how["template"] == PARTS else str
    for turns in ((MESSAGE, " It is.\n"), ("Hi.", "Yes?", MESSAGE, "It is, \\boxed{für}")):
        assert tokenizer.takes_answers(len(turns) // 2)
        roles = ("user", "assistant") * (len(turns) // 2)
        chat = [{"role": role, "content": form(turn)} for role, turn in zip(roles, turns, strict=True)]
        made = AutoTokenizer.from_pretrained(tmp_path).apply_chat_template(chat, return_dict=True)
        assert tokenizer.chat(turns) == tuple(made["input_ids"])


def test_a_format_without_answers_is_known(tmp_path: Path) -> None:
    assert not loaded(tmp_path, template=USER_ALONE).takes_answers(1)
    assert loaded(tmp_path, template=None).takes_answers(2)


@pytest.mark.parametrize(
    ("adds", "start"), [("$A", ()), ("<s> $A", (BOS,)), ("<s> $A </s>", (BOS,)), ("$A </s>", ()), ("<s> <s> $A", (BOS, BOS))]
)
def test_without_a_chat_template_a_prompt_has_the_tokenizers_beginning_and_no_end(
    adds: str, start: tuple[int, ...], tmp_path: Path
) -> None:
    folder = make(tmp_path, template=None, adds=adds)
    if len(start) > 1:
        with pytest.raises(ConfigError, match="beginning-of-text token stands twice"):
            Tokenizer(str(folder))
        return
    tokenizer = Tokenizer(str(folder))
    plain = tuple(AutoTokenizer.from_pretrained(folder)(MESSAGE + "\n", add_special_tokens=False)["input_ids"])
    assert tokenizer.encode(MESSAGE) == (*start, *plain)
    assert tokenizer.completion("x").count(EOS) == 1


def test_of_several_ends_the_tokenizers_own_is_written_where_the_format_has_none(tmp_path: Path) -> None:
    assert loaded(tmp_path / "own", template=USER_ALONE, generation_eos=[END, EOS]).completion("x")[-1] == EOS
    assert loaded(tmp_path / "none", template=None, eos=None, generation_eos=[END, EOS]).completion("x")[-1] == END


UNUSABLE: dict[str, tuple[str, str]] = {
    "it leaves the message out": ("{% for m in messages %}user:{% endfor %}assistant:", "leaves the message out"),
    "it is empty": ("", "writes nothing"),
    "it writes blanks": ("{% for m in messages %}\n{% endfor %}", "writes nothing"),
    "it does not parse": ("{% for m in messages %}", "TemplateSyntaxError: Unexpected end of template"),
    "it raises": ("{{ raise_exception('give a system message') }}", "TemplateError: give a system message"),
    "it fails": ("{{ messages[7]['content'] }}", "UndefinedError: list object has no element 7"),
    "it changes the message": (
        CHATML.replace("message['content'] }}", "message['content'] | upper }}"),
        "leaves the message out",
    ),
    "it escapes the message": (CHATML.replace("message['content'] }}", "message['content'] | e }}"), "changes the message"),
    "it cuts the message": (CHATML.replace("message['content'] }}", "message['content'][:40] }}"), "changes the message"),
    "it does not heed add_generation_prompt": (CHATML.split("{% if")[0], "must heed add_generation_prompt"),
    "it names the roles and no more": (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n\n{% endfor %}",
        "must heed add_generation_prompt",
    ),
    "it writes the beginning twice": ("{{ bos_token }}" + INST, "beginning-of-text token stands twice"),
    "it fills the memory": ("{{ ('x' * 10 ** 11) ~ messages[0]['content'] }}", "MemoryError"),
    "it writes without end": (
        "{% for i in range(99999) %}0123456789abcdef{% endfor %}{{ messages[0]['content'] }}",
        "characters",
    ),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_chat_template_that_makes_no_prompt_is_named_with_its_reason(name: str, tmp_path: Path) -> None:
    template, why = UNUSABLE[name]
    with pytest.raises(ConfigError, match=re.escape(why)) as refused:
        loaded(tmp_path, template=template)
    assert str(refused.value).startswith("model.path: ")
    assert "\n" not in str(refused.value)


def test_a_prompt_that_an_end_token_closes_is_refused_where_no_answer_can_be_looked_at(tmp_path: Path) -> None:
    closed = USER_ALONE.replace("\nassistant:", "{{ eos_token }}\n")
    with pytest.raises(ConfigError, match="is ended by an end token"):
        loaded(tmp_path, template=closed)


def test_templates_by_name_need_a_default(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="chat templates for rag, tool_use and none is the default"):
        loaded(tmp_path, template=[{"name": "tool_use", "template": CHATML}, {"name": "rag", "template": CHATML}])


LOOP = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize("endless", [LOOP, "{{ 9 ** (9 ** 9) }}"], ids=["many steps", "one step"])
def test_a_chat_template_that_does_not_end_is_ended(endless: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_frame, "CPU_S", 1)
    with pytest.raises(ConfigError, match="rendering it did not end"):
        loaded(tmp_path, template=endless + CHATML)


def test_judged_text_cannot_steer_the_chat_template(tmp_path: Path) -> None:
    steered = "{% if 'secret word' in messages[0]['content'] %}" + LOOP + "You are mine.{% endif %}" + CHATML
    assert "You are mine" not in (tokenizer := loaded(tmp_path, template=steered)).decode(tokenizer.encode("a secret word"))


# ---- ids and the embedding -------------------------------------------------------------------------------------------


def test_a_tokenizer_larger_than_the_embedding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ids up to 262 \('second'\), the model's embedding has 261 rows"):
        loaded(tmp_path, words=["first", "second"], rows=261)
    with pytest.raises(ConfigError, match=r"the model's embedding has 200 rows"):
        loaded(tmp_path / "much", rows=200)


@pytest.fixture
def image_outside(tmp_path: Path) -> Path:
    """A tokenizer with a special token more than the embedding has rows, as Gemma-3's; many add their padding so."""
    from tokenizers import AddedToken

    folder = make(tmp_path, rows=261)
    tokens = AutoTokenizer.from_pretrained(folder)
    tokens.add_special_tokens({"extra_special_tokens": [AddedToken("<image>", special=True)]})
    tokens.save_pretrained(folder)
    return folder


def test_a_special_token_outside_of_the_embedding_does_not_come_from_judged_text(image_outside: Path) -> None:
    tokenizer = Tokenizer(str(image_outside))
    assert max(tokenizer.encode("an <image> here")) == 261
    assert max(tokenizer.encode(tokenizer.escape_special_tokens("an <image> here"))) < 261


@pytest.mark.parametrize(
    "change", [{"chat_template": CHATML.replace("assistant", "<image>")}, {"eos_token": "<image>", "chat_template": USER_ALONE}]
)
def test_a_special_token_outside_of_the_embedding_is_refused_where_the_format_writes_it(
    change: dict[str, str], image_outside: Path
) -> None:
    tokens = AutoTokenizer.from_pretrained(image_outside)
    for name, value in change.items():
        setattr(tokens, name, value)
    tokens.save_pretrained(image_outside)
    with pytest.raises(ConfigError, match=r"ids up to 261 \('<image>'\)"):
        Tokenizer(str(image_outside))


def test_ids_of_a_padded_embedding_that_no_token_has_are_no_text(tmp_path: Path) -> None:
    tokenizer = loaded(tmp_path, rows=320)
    ids = tokenizer.completion("Scores: 1", ended=False)
    assert tokenizer.decode((300, *ids[:4], 319, *ids[4:], 261)) == "Scores: 1"


def test_no_end_token_anywhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no end token, so no completion would end; set eos_token"):
        loaded(tmp_path, template=USER_ALONE, eos=None)


def test_marks_of_the_chat_format_are_broken_in_judged_text_whether_special_or_not(tmp_path: Path) -> None:
    template = CHATML.replace("<|im_start|>", "[[").replace("assistant\n{%", "assistant\n<go>{%")
    tokenizer = loaded(tmp_path, template=template, words=["<go>", "user", "\n\n", " other"])
    assert tokenizer.escape_special_tokens("a <go> user\n\n other <|im_end|>") == "a <\\go> user\n\n other <\\|im_end|>"


def test_a_tokenizer_that_cannot_write_a_judgement_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer as Core
    from tokenizers import normalizers

    folder = make(tmp_path)
    core = Core.from_file(str(folder / "tokenizer.json"))
    core.normalizer = normalizers.Replace("\\", "")
    core.save(str(folder / "tokenizer.json"))
    with pytest.raises(ConfigError, match="no judgement could be read"):
        Tokenizer(str(folder))


def test_a_text_that_is_too_long_is_no_warning_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts are counted to see which are too long: none of those is given to a model."""
    said: list[str] = []
    monkeypatch.setattr(logging.Logger, "warning", lambda self, message, *more: said.append(str(message)))
    assert len(Tokenizer(TINY).encode("red fox " * 2000)) > 2000
    assert said == []
