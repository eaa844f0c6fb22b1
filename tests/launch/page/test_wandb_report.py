"""The report in W&B: built by its own package, saved on a server that stands in for W&B's, and read back."""

import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from configs.load import dump, load
from launch.monitoring.metrics import METRICS
from launch.page import wandb_report
from launch.page.cards import CARDS
from launch.page.run_page import RunFiles, read
from launch.page.run_summary import Summary
from launch.report import main
from tests.fake_wandb_server import FakeWandbServer
from tests.launch.page.sample_run import write

KEY = "0123456789abcdef" * 3


@pytest.fixture(autouse=True)
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeWandbServer]:
    """The only W&B that its client knows here: even a draft asks it about the project."""
    standing_in = FakeWandbServer()
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name, value in (("BASE_URL", standing_in.url), ("API_KEY", KEY), ("ENTITY", "me"), ("CONFIG_DIR", str(tmp_path))):
        monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    yield standing_in
    standing_in.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    run = write(tmp_path / "mine", steps=4)
    (run / "config.yaml").write_text(dump(load("tiny", ["tracking.project=judges"])))
    return run


def grids(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the grids of panels of a report's spec, in its order."""
    return [block["metadata"] for block in spec["blocks"] if block["type"] == "panel-grid"]


def plots(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the settings of each plot of a report's spec, in its order."""
    return [panel["config"] for grid in grids(spec) for panel in grid["panelBankSectionConfig"]["panels"]]


def test_each_curve_that_was_logged_is_drawn_along_its_own_axis(folder: Path) -> None:
    report = wandb_report.draft(read(folder), "mine", "judges", "me")
    drawn = {name: plot["xAxis"] for plot in plots(spec_of(report)) for name in plot["metrics"]}
    logged = {name for record in read(folder).records for name in record["metrics"]}
    cards = {trace.metric for card in CARDS for trace in card.traces}
    assert drawn == {name: METRICS[name.replace("@1", "@k")].axis for name in logged if name.replace("@1", "@k") in cards}
    assert len(drawn) > 20


def test_every_metric_of_a_card_has_a_place(folder: Path) -> None:
    """No axis is forgotten in AXES."""
    everything = [{"metrics": {name.replace("@k", "@1"): 0.0 for name in METRICS}, "elapsed_s": 1.0}]
    report = wandb_report.draft(
        RunFiles(summary=Summary(values={}), config="", records=everything, samples=[]), "r", "judges", "me"
    )
    drawn = {name for plot in plots(spec_of(report)) for name in plot["metrics"]}
    assert drawn == {trace.metric.replace("@k", "@1") for card in CARDS for trace in card.traces}


def test_votes_stand_in_their_order() -> None:
    [card] = [card for card in CARDS if card.title == "Held-out accuracy"]
    assert wandb_report.drawn(card, {f"eval/accuracy@{k}" for k in (16, 2, 1)}) == [f"eval/accuracy@{k}" for k in (1, 2, 16)]


def test_the_command_saves_it_and_says_where(folder: Path, server: FakeWandbServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder), "--wandb"]) == 0
    [sent] = server.reports
    assert (sent["entityName"], sent["projectName"], sent["displayName"]) == ("me", "judges", "SPCT · mine")
    spec = json.loads(sent["spec"])
    assert plots(spec)
    [filters] = {json.dumps(grid["runSets"][0]["filters"]) for grid in grids(spec)}
    assert '"group"' in filters
    assert '"mine"' in filters, "of all runs of the project, those of this one"
    assert "/me/judges/reports/" in capsys.readouterr().out.splitlines()[-1]


def test_a_run_that_was_never_uploaded_is_a_sentence(
    folder: Path, server: FakeWandbServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.projects.clear()
    assert main([str(folder), "--wandb"]) == 1
    assert "failed: W&B did not take the report: " in (said := capsys.readouterr().err)
    assert "'me/judges' not found" in said


def test_a_key_that_is_not_known_is_a_sentence(
    folder: Path, server: FakeWandbServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.known = False
    assert main([str(folder), "--wandb"]) == 2
    assert "error: W&B" in capsys.readouterr().err


def test_without_a_key_nothing_is_sent(
    folder: Path, server: FakeWandbServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    assert main([str(folder), "--wandb"]) == 2
    assert "there is no key" in capsys.readouterr().err
    assert not server.asked


def test_without_the_package_it_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main([str(folder), "--wandb"]) == 2
    assert "pip install wandb-workspaces" in capsys.readouterr().err
    assert (folder / "report.html").is_file(), "the page needs no such package"


def spec_of(report: Any) -> dict[str, Any]:
    """Return what a server would be sent, after W&B's own models have read it once more."""
    model = report._to_model()
    again = type(report)._from_model(type(model).model_validate_json(model.model_dump_json(by_alias=True)))
    spec: dict[str, Any] = json.loads(again._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))
    return spec
