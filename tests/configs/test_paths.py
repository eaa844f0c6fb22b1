"""`~` is the home folder in every path, and what a Ray job writes does not vanish with the job."""

import json
from pathlib import Path
from types import ModuleType

import pytest

from configs.load import ConfigError, dump, load
from configs.paths import expanded, output_path, run_places
from launch import cold_start, run
from launch.evaluate import config_of, parser
from launch.evaluate import main as evaluate
from launch.monitoring.lookup import locate_run
from launch.report import main as report
from launch.setup.model_files import TINY, resolve
from launch.setup.run_config import load_resumed_config, load_run_config
from launch.setup.run_folder import create_run_folder

SERVER = "redis.url=redis://127.0.0.1:1"  # whose address needs no running server


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder, with inputs; the working folder is another."""
    folder = tmp_path / "home"
    (folder / "w").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(tmp_path)
    (folder / "t.txt").write_text("Judge.\n{{query}}\n{{responses}}\n{{hint}}\nScores: {{scores}}\n")
    (folder / "model").symlink_to(TINY)
    return folder


def test_the_home_folder_stands_in_every_path_of_a_config(home: Path) -> None:
    (home / "mine.yaml").write_text(dump(load("tiny")))
    overrides = ["data.train=[~/a.jsonl, hf:NCSOFT/offsetbias@~/w]", "data.heldout=~/b.jsonl", "cold_start.general=~/c.jsonl"]
    paths = ["prompts.template_path=~/t.txt", "model.path=~/model", "run.dir=~/w", "run.id=x"]
    config = load_run_config("~/mine.yaml", [*overrides, *paths, SERVER])
    assert config.data.train == [str(home / "a.jsonl"), f"hf:NCSOFT/offsetbias@{home / 'w'}"]
    assert (config.data.heldout, config.cold_start.general) == ([str(home / "b.jsonl")], [str(home / "c.jsonl")])
    assert (config.prompts.template_path, config.model.path) == (str(home / "t.txt"), str(home / "model"))
    folder = create_run_folder(config, "tiny", resolve(config.model.path))
    assert folder == home / "w" / "x"
    (folder / "config.yaml").write_text(dump(config))
    assert load_resumed_config("~/w/x").run.dir == str(home / "w")
    assert locate_run("~/w/x")[0] == folder.resolve()
    assert report(["~/w/x"]) == 0
    assert (folder / "report.html").is_file()


def test_an_evaluation_knows_it_too(home: Path) -> None:
    arguments = parser().parse_args(["--model", "~/model", "--data", "~/a.jsonl", "--out", "~/out"])
    config = config_of(arguments)
    assert (config.model.path, config.data.heldout) == (str(home / "model"), [str(home / "a.jsonl")])
    assert output_path(arguments.out) == home / "out"


@pytest.mark.parametrize("path", ["~no-such-user/x", "~\x00/x", "a~b", "", "~\udcff"])
def test_what_is_no_home_folder_stays(path: str) -> None:
    assert expanded(path) == path


@pytest.fixture
def job(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a Ray job: a copy of what was submitted, an old copy of the run included."""
    copy = tmp_path / "_ray_pkg_0123"
    (copy / "runs" / "mine").mkdir(parents=True)
    (copy / "runs" / "mine" / "config.yaml").write_text("not: this one")
    monkeypatch.chdir(copy)
    return copy


def test_a_job_finds_the_run_that_a_job_has_put_under_the_home_folder(home: Path, job: Path) -> None:
    config = load_run_config("tiny", ["run.id=mine", SERVER])
    folder = create_run_folder(config, "tiny", str(TINY))
    assert folder == home / "runs" / "mine"
    (folder / "config.yaml").write_text(dump(config))
    for named in ("runs/mine", "mine", "~/runs/mine", str(folder)):
        assert load_resumed_config(named).run.dir == str(home / "runs")
        assert locate_run(named)[0] == folder.resolve()
    assert output_path("evaluations/x") == home / "evaluations" / "x"


@pytest.mark.parametrize("has_name", [True, False])
def test_a_job_whose_user_has_no_home_folder_is_given_full_paths(
    has_name: bool, job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else the run would lie in the job's copy: `choose_caches` makes a home folder from run.dir."""
    if has_name:
        monkeypatch.setenv("HOME", str(tmp_path / "nonexistent"))  # as of `nobody`
    else:
        monkeypatch.delenv("HOME")
        monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    why = "is relative: a Ray job writes it under the home folder, and its user has none; give a full path"
    with pytest.raises(ConfigError, match=f"^run.dir = 'runs' {why}$"):
        load_run_config("tiny", [SERVER])
    with pytest.raises(ConfigError, match=f"^--resume 'runs/mine' {why}$"):
        load_resumed_config("runs/mine")
    assert evaluate(["--model", "tiny", "--data", "tiny:1:5:2", "--out", "x"]) == 2
    assert capsys.readouterr().err == f"error: --out 'x' {why}\n"
    assert load_run_config("tiny", [SERVER, f"run.dir={tmp_path}"]).run.dir == str(tmp_path)


@pytest.mark.parametrize("entry", [run, cold_start], ids=lambda entry: entry.__name__)
def test_a_run_is_placed_before_its_caches_are(
    entry: ModuleType, home: Path, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fallback: Path) -> None:
        raise ConfigError(f"caches in {fallback}")

    monkeypatch.setattr(entry, "choose_caches", refuse)
    enter = entry.train if entry is run else entry.cold_start
    with pytest.raises(ConfigError, match=f"^caches in {home}/runs/.cache$"):
        enter(load_run_config("tiny", [SERVER]), preset="tiny")


def test_outside_of_the_job_it_is_found_too_behind_one_that_lies_here(
    home: Path, job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = home / "runs" / "mine"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(dump(load("tiny", [SERVER])))
    (folder / "summary.json").write_text(json.dumps({"run_id": "mine"}))
    monkeypatch.chdir(tmp_path)
    assert locate_run("runs/mine")[0] == folder.resolve()
    assert report(["mine"]) == 0
    here = tmp_path / "runs" / "mine"
    here.mkdir(parents=True)
    (here / "config.yaml").write_text(dump(load("tiny", [SERVER])))
    assert locate_run("mine")[0] == here.resolve()


def test_places_are_looked_at_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    assert run_places("x") == [home / "x", home / "runs" / "x"]
    assert run_places("/a/x")[0] == Path("/a/x")


def test_a_user_without_a_home_folder_finds_runs_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    monkeypatch.chdir(tmp_path)
    assert run_places("x") == [tmp_path / "x", tmp_path / "runs" / "x"]
