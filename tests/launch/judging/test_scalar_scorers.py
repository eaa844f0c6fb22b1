"""A scalar reward model of a folder: the scores are those of transformers on the chat as its template writes it."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from configs.load import ConfigError, load
from grm.preferences import Preference, Question
from launch.cluster import calls
from launch.evaluate import main
from launch.judging import meta_scores, scalar_evaluation, scalar_scorers
from launch.judging.protocol import NotJudged
from launch.judging.scalar_evaluation import check_scalar_lengths
from launch.judging.scalar_scorers import ScalarScorers, checked_scalar, grouped
from launch.judging.scalar_scores import Chat, Score
from learner import models
from learner.meta_scorer import MetaScorer
from tests import random_models
from tests.launch.evaluation import ROWS, rows
from tests.learner.run_by_hand import config
from tests.learner.test_meta_scorer import trained
from tests.small_tokenizers import USER_ALONE

CHATS: list[Chat] = [
    ("Why is it so?", "It is so."),
    ("Why is it so?", "It is so, I think."),
    ("Hi.", "Yes?", "Why?", "Nobody knows. "),
    ("Why is it so?", "Because!"),
    ("Hi.", "Yes?", "Why?", "So."),
]


class InProcess:
    """In place of a scorer actor: the scorer itself, asked when its answer is waited for."""

    def __init__(self, folder: Path) -> None:
        self._scorer, self.score, self.calls = MetaScorer(config(folder), model_path=str(folder)), self, 0

    def remote(self, asked: Sequence[Any]) -> Callable[[], list[list[float]]]:
        self.calls += 1
        return lambda: self._scorer.score(asked)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("scalar")
    return trained(where / "rm", random_models.make(where / "base", "qwen3"))


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "next_answer", lambda refs, **_: (refs[-1], refs[-1]()))


def by_transformers(folder: Path, chat: Chat) -> float:
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    roles = ("user", "assistant") * (len(chat) // 2)
    messages = [{"role": role, "content": text} for role, text in zip(roles, chat, strict=True)]
    ids = AutoTokenizer.from_pretrained(folder).apply_chat_template(messages, return_dict=True)["input_ids"]
    with torch.no_grad():
        return float(model(torch.tensor([ids])).logits.item())


@pytest.mark.usefixtures("no_ray")
def test_scores_are_those_of_transformers_in_the_order_of_the_chats(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scalar_scorers, "CHATS", 3)
    workers = [InProcess(folder), InProcess(folder)]
    evaluation = load("tiny", [f"model.path={folder}", "model.context=96"])
    model = ScalarScorers(evaluation, scorers=workers, tokenizer=checked_scalar(evaluation, str(folder)))
    *found, lost = model.score([*CHATS, ("Why? " * 40, "So.")])
    values = [score.value for score in found if isinstance(score, Score)]
    expected = [by_transformers(folder, chat) for chat in CHATS]
    assert len(set(expected)) == len(CHATS)
    assert values == pytest.approx(expected, abs=1e-4)
    assert isinstance(lost, NotJudged)
    assert "model.context is 96; raise model.context" in str(lost)
    assert [worker.calls for worker in workers] == [1, 1]


def test_chats_of_one_query_share_all_but_their_last_tokens() -> None:
    assert grouped([(1, 2, 3, 9), (1, 2, 4)]) == ((1, 2), [(3, 9), (4,)])
    assert grouped([(1, 2, 3), (1, 2, 3)]) == ((1, 2), [(3,), (3,)])
    assert grouped([(5, 6)]) == ((5,), [(6,)])


def changed(folder: Path, where: Path, **changes: Any) -> str:
    copy = Path(shutil.copytree(folder, where))
    fields = json.loads((copy / "config.json").read_text()) | changes
    (copy / "config.json").write_text(json.dumps(fields))
    return str(copy)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, "is a LlamaForCausalLM; give a sequence classifier, or leave --scalar out"),
        ({"id2label": {"0": "bad", "1": "good"}}, "it has 2 labels; a scalar reward model has one"),
        ({"max_position_embeddings": 64}, "model.context = 96 is over the model's own limit of 64 tokens"),
    ],
)
def test_what_cannot_score_is_refused(folder: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        checked_scalar(load("tiny", ["model.context=96"]), changed(folder, tmp_path / "copy", **changes))


def test_a_format_without_answers_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = changed(folder, tmp_path / "copy")
    (Path(copy) / "chat_template.jinja").write_text(USER_ALONE)
    with pytest.raises(ConfigError, match="its chat template takes no answer"):
        checked_scalar(load("tiny", ["model.context=96"]), copy)


def test_an_encoder_is_refused_where_it_is_loaded(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    small = BertConfig(
        vocab_size=300, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, num_labels=1
    )
    BertForSequenceClassification(small).save_pretrained(tmp_path / "bert")
    random_models.make(tmp_path / "base", "llama")
    for file in (tmp_path / "base").glob("*token*"):
        shutil.copy(file, tmp_path / "bert")
    with pytest.raises(ValueError, match="BertForSequenceClassification has no head at the last token"):
        models.load_scorer(str(tmp_path / "bert"), "float32", "cpu")


def test_what_does_not_fit_is_counted_before_a_scorer_starts(folder: Path) -> None:
    def preference(name: str, query: str) -> Preference:
        return Preference(question=Question(id=name, query=query, responses=("So.", "It is.")), label=0)

    tokenizer, said = checked_scalar(load("tiny", ["model.context=96"]), str(folder)), list[str]()
    fits, long = preference("fits", "Why?"), preference("long", "Why? " * 40)
    check_scalar_lengths(tokenizer, [fits], 96, said.append)
    assert said == []
    check_scalar_lengths(tokenizer, [fits, long], 96, said.append)
    assert said == [
        "note       1 of 2 preferences have a response that is, with its query, over 96 tokens (model.context; the first: long,"
        f" {len(tokenizer.chat(('Why? ' * 40, 'It is.')))}) and get no score; raise model.context"
    ]
    with pytest.raises(ConfigError, match=r"1 of 1 preferences have a response that is, .*: raise model.context"):
        check_scalar_lengths(tokenizer, [long], 96, said.append)


@pytest.mark.usefixtures("no_ray")
def test_an_evaluation_of_a_folder_needs_no_option_but_its_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole of it but Ray: the scorer is in this process (a whole one is `full`, in test_evaluate_scalar.py)."""
    asked: list[tuple[bool, bool]] = []

    @contextmanager
    def no_cluster(config: Any, target: Any, *, engines: bool, scorers: bool, show: Any) -> Iterator[None]:
        asked.append((engines, scorers))
        yield None

    monkeypatch.setattr(scalar_evaluation, "cluster_for", no_cluster)
    monkeypatch.setattr(meta_scores, "start_scorers", lambda cluster, config, model: ([InProcess(Path(model))], None))
    data = rows(tmp_path / "data.jsonl", *ROWS)
    options = ["--model", str(folder), "--data", data, "--config", "tiny", "--out", str(tmp_path / "out")]
    assert main([*options, "tracking.mode=disabled"]) == 0
    assert "scored 6 of 6 preferences" in capsys.readouterr().out
    lines = (tmp_path / "out" / "judgements.jsonl").read_text().splitlines()[1:]
    found = {row["id"]: row["samples"][0]["scores"] for row in map(json.loads, lines)}
    assert found["p2"] == pytest.approx([by_transformers(folder, ("q two", text)) for text in ROWS[1]["responses"]], abs=1e-4)
    assert main([*options, "tracking.mode=disabled"]) == 0
    assert "all 6 preferences stand already" in capsys.readouterr().out
    assert asked == [(False, True)], "the second start needs no scorer"
