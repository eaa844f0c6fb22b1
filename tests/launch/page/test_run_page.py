import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from launch.monitoring.metrics import METRICS
from launch.page.cards import CARDS
from launch.page.charts import HEIGHT, WIDTH
from launch.page.judgements import LONGEST, prose
from launch.page.run_page import ReportError, write_report
from launch.report import main
from tests.launch.page import sample_run
from tests.launch.page.strict_page import INVISIBLE, OWN_TAGS, Page

EVERY_STEP = (
    "position/consistency position/first_excess "
    "reward/mean parse/failure_rate staleness/max staleness/mean idle/learner_ratio idle/rollout_ratio meta_rm/auc"
    " meta_rm/accuracy loss/kl optim/grad_norm throughput/tokens_per_s reward/solved_all reward/solved_none off_policy/ess"
    " off_policy/clip_fraction time/wait_for_experience_s time/train_s time/publish_s"
    " policy/entropy length/truncated_fraction length/completion_p50 length/completion_p95 groups/lost_hand_offs"
    " rollout/request_latency_s rollout/request_latency_p95_s"
)
# metric -> points in a run of 120 steps with an evaluation every 20
EXPECTED = {"eval/accuracy@1": 7, "eval/parse_rate@1": 7, "vote@k": 6, "guided@k": 6} | dict.fromkeys(EVERY_STEP.split(), 120)
LEVELS = ["greedy", "greedy", "chance", "longest answer", "bound", "chance"]


@pytest.fixture(scope="module")
def curves(source: str) -> dict[str, list[tuple[float, float]]]:
    """Every measured line of the page: {metric: vertices}."""
    lines = [attributes for _, attributes in Page(source).tags if "data-metric" in attributes]
    return {a["data-metric"]: [tuple(map(float, pair.split(","))) for pair in a["points"].split()] for a in lines}  # type: ignore[misc]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report page of a completed run."""
    return write_report(sample_run.write(tmp_path_factory.mktemp("run"))).read_text(encoding="utf-8")


def report_of(folder: Path, **changes: Any) -> Page:
    """Returns the page of a short run whose summary is changed."""
    sample_run.write(folder, steps=3)
    (folder / "summary.json").write_text(json.dumps(sample_run.summary(**changes)))
    return Page(write_report(folder).read_text(encoding="utf-8"))


def test_page_is_well_formed(source: str) -> None:
    page = Page(source)
    assert {name for name, _ in page.tags} <= OWN_TAGS
    drawings = re.findall(r"<svg.*?</svg>", source, flags=re.DOTALL)
    assert len(drawings) == len(CARDS) + 2  # and a scaling curve for each policy that voted
    for drawing in drawings:
        ElementTree.fromstring(drawing)


def test_the_page_refers_to_nothing_outside(source: str) -> None:
    names = {key for _, attributes in Page(source).tags for key in attributes}
    assert not {name for name in names if name.startswith("on")}
    assert not names & {"src", "srcset", "href", "xlink:href", "action", "data", "background", "poster", "formaction"}
    (style,) = re.findall(r"<style>(.*?)</style>", source, flags=re.DOTALL)
    assert not re.search(r"url\(|@import|http|//|expression", style)
    assert "default-src 'none'" in source, "a browser would refuse it as well"


def test_every_curve_has_all_its_points_and_no_other_is_drawn(curves: dict[str, list[tuple[float, float]]]) -> None:
    assert {metric: len(line) for metric, line in curves.items()} == EXPECTED
    for line in curves.values():
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in line)
        assert [x for x, _ in line] == sorted(x for x, _ in line)


def test_every_card_shows_metrics_that_exist() -> None:
    assert {trace.metric for card in CARDS for trace in card.traces} <= set(METRICS)


def test_values_and_bounds_can_be_read_off(source: str) -> None:
    page = Page(source)
    assert [a["data-level"] for _, a in page.tags if "data-level" in a] == LEVELS
    assert "version 20\nk = 1 " in page.text, "a tooltip names the x and every line's value"
    assert "version 120\nk = 1 91.2\u00a0%" in page.text
    for text in (
        "55.8%→91.2%",
        "+35.5 points on 400 held-out preferences of 2",
        "94.5\u00a0% → 99.8\u00a0%",
        "within the bound of 4",
        "10\u202f568 judgements",
        "8\u00a0min 43\u00a0s",
        "1\u202f361 issued",
        "outstanding39",
        "other7.6\u00a0s",
        "longest answer wins53.2\u00a0%",
    ):
        assert text in page.text


def test_each_policy_has_a_row_and_each_one_that_voted_a_curve(source: str) -> None:
    text = Page(source).text
    assert "policygreedyvotes@32meta-guided votes@32" in text
    assert "base55.8\u00a0% 50.9\u00a0% – 60.5\u00a0%——" in text, "the base did not vote"
    assert "cold start64\u00a0% 59.2\u00a0% – 68.6\u00a0%67\u00a0% 64\u00a0% – 70\u00a0%71\u00a0% 68\u00a0% – 74\u00a0%" in text
    assert "Votes of the online RL policy" in text
    assert "820 kept, 512 wrong" in text
    assert "votes 4\nvotes 63.4\u00a0%\nguided by the meta-RM 65\u00a0%" in text


def test_judgements_stand_side_by_side(source: str) -> None:
    text = Page(source).text
    assert "★ labelled best" in text
    assert "Before, version 0wrong −1" in text
    assert "After, version 120right +1" in text
    assert "Did not parse: no box" in text
    assert "During training, version 60" in text
    assert "Brevity 80 %: the query asks for it" in text


def test_hostile_text_is_shown_and_does_nothing(source: str) -> None:
    page = Page(source)
    assert page.text.count("<script>alert(1)</script><img src=x onerror=alert(2)>") == 4, (
        "query, response, principles, critique"
    )
    assert "[U+001B][31mred" in page.text
    assert "[U+202E]gnirts desrever[U+202C] [U+0000][U+0007] \\boxed{10, 1} \ufffd </details></body> " in page.text
    assert "שלום 你好" in page.text
    assert not INVISIBLE.search(source)
    isolated = [a for name, a in page.tags if "text" in a.get("class", "").split() and name in ("div", "span")]
    assert isolated
    assert all(a.get("dir") == "auto" for a in isolated)


def test_configuration_is_there_without_its_password(source: str) -> None:
    assert "rediss://***@example.org:6379/0" in source
    assert "hunter22" not in source


def test_the_names_of_a_run_are_escaped_too(tmp_path: Path) -> None:
    page = report_of(tmp_path, run_id="</title><script>", preset="<i>", seed="<b>", finished="<u>", error='"><img src=x>')
    assert {name for name, _ in page.tags} <= OWN_TAGS
    assert "SPCT · <i> · </title><script>" in page.text


@pytest.mark.parametrize("value", [None, {}, "text", 3, [], {"before": None, "max": "x", "issued": True}])
@pytest.mark.parametrize("missing", [*sample_run.summary(), "everything"])
def test_the_page_copes_with_any_missing_value(tmp_path: Path, missing: str, value: Any) -> None:
    names = list(sample_run.summary()) if missing == "everything" else [missing]
    page = report_of(tmp_path, **dict.fromkeys(names, value))
    if value is None and missing in ("meta_rm", "reward", "parse_rate", "groups", "seconds", "tokens", "steps", "staleness"):
        assert re.search("not recorded", page.text, flags=re.IGNORECASE)


def test_a_failed_run_is_reported_as_failed(tmp_path: Path) -> None:
    accuracy, staleness = {"before": 0.5575, "after": None}, {"max": 5, "mean": 2, "bound": 4}
    page = report_of(
        tmp_path, finished="failed", accuracy=accuracy, staleness=staleness, error="\x1b[36mrollout actor 1 died\x1b[39m"
    )
    assert "The run failed before it was complete" in page.text
    assert "what it had done.rollout actor 1 died" in page.text
    assert "It was not measured again." in page.text
    assert "5ABOVE the bound of 4" in page.text
    assert any(a.get("class") == "bad" for name, a in page.tags if name == "dd")


@pytest.mark.parametrize(
    ("n", "text"),
    [(2, " of 2 responses, "), ([1], " of 1 response, "), ([2, 3, 4], " of 2 to 4 responses, "), ([], ", judged ")],
)
def test_number_of_responses(tmp_path: Path, n: Any, text: str) -> None:
    assert f"400 held-out preferences{text}" in report_of(tmp_path, heldout={"rows": 400, "n": n}).text


def test_run_without_a_summary_is_reported_from_its_curves(tmp_path: Path) -> None:
    sample_run.write(tmp_path, steps=40)
    (tmp_path / "summary.json").unlink()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"elapsed_s": 1, "metr')
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert "There is no summary.json" in page.text
    assert "metrics.jsonl: 1 line could not be read and was left out." in page.text
    assert "55.8%→91.2%" in page.text


def test_cards_without_records_are_named(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("run: {}\n")
    (tmp_path / "metrics.jsonl").write_text('{"elapsed_s": 1, "metrics": {"learner/version": 1, "loss/kl": null}}\n[1]\n')
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert "Not recorded in this run: Held-out accuracy, Reward, Parse rate, Staleness," in page.text
    assert "1 value not finite (NaN or infinite)" in page.text
    assert "No sample judgements were recorded" in page.text


def test_single_response_shows_its_label(tmp_path: Path) -> None:
    row = {
        "when": "after",
        "version": 3,
        "preference": "m1",
        "query": "2+2?",
        "responses": ["5"],
        "label": 0,
        "scores": [1],
        "reward": -1,
        "completion": 7,
        "failure": None,
    }
    (tmp_path / "samples.jsonl").write_text(json.dumps(row) + "\n" + json.dumps({"when": 3, "responses": "x", "scores": None}))
    text = Page(write_report(tmp_path).read_text(encoding="utf-8")).text
    assert "labelled wrong" in text
    assert "★" not in text


def test_command_line(tmp_path: Path) -> None:
    sample_run.write(tmp_path / "run", steps=2)
    script = Path(main.__code__.co_filename)
    done = subprocess.run([sys.executable, script, "run"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert Path(done.stdout.strip()) == tmp_path / "run" / "report.html"
    assert (tmp_path / "run" / "report.html").is_file()


def test_folder_that_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ReportError, match=r"holds none of summary\.json, config\.yaml"):
        write_report(tmp_path)
    assert main([str(tmp_path / "missing")]) == 2
    assert "name the folder of a run" in capsys.readouterr().err


def test_long_text_is_folded_and_cut() -> None:
    page = Page(prose("word " * 20_000))
    assert "show all 100,000 characters" in page.text
    assert "80,000 more characters are in samples.jsonl" in page.text
    assert len(page.text) < LONGEST + 200
