"""Every shipped preset parses; every wrong key is named with its remedy."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.load import EVALUATION, PRESETS, ConfigError, dump, is_override, load, parse, presets
from configs.schema import Config
from grm import hf_sets

SHIPPED = [*presets(), EVALUATION]


def leaves(config: Config) -> dict[str, object]:
    return {f"{section}.{leaf}": value for section, tree in config.model_dump().items() for leaf, value in tree.items()}


@pytest.mark.parametrize("name", SHIPPED)
def test_every_preset_parses_and_survives_a_dump(name: str, tmp_path: Path) -> None:
    config = load(name)
    file = tmp_path / "resolved.yaml"
    file.write_text(dump(config))
    assert load(file) == config


def test_a_run_can_be_started_with_every_preset_but_the_evaluations() -> None:
    large = ["gemma2-27b", "llama3.3-70b", "qwen3-0.6b-1gpu", "qwen3-1.7b-1gpu", "qwen3-8b"]
    assert presets() == [*large, "real-text", "smollm2-135m", "tiny"]
    assert sorted(SHIPPED) == sorted(file.stem for file in PRESETS.glob("*.yaml"))


def test_the_schema_stays_small_and_two_deep() -> None:
    assert len(leaves(load("tiny"))) <= 110
    assert not any(isinstance(value, dict) for value in leaves(load("tiny")).values())


def test_the_27b_preset_is_the_papers_recipe() -> None:
    config = load("gemma2-27b")
    assert (config.rollout.samples, config.grpo.batch_groups * config.rollout.samples) == (4, 512)
    assert (config.grpo.lr, config.grpo.beta, config.grpo.steps) == (4e-7, 0.08, 900)
    assert not config.grpo.filter, "beta is tuned for the KL of groups that carry nothing else"
    cold = config.cold_start
    assert (cold.enabled, cold.samples, cold.hinted, cold.batch, cold.lr) == (True, 3, True, 1024, 5e-6)
    assert (cold.steps, cold.select) == (900, "last")
    assert (config.meta_rm.lr, config.meta_rm.batch) == (1e-5, 512)


@pytest.mark.parametrize("name", ["gemma2-27b", "llama3.3-70b", "qwen3-8b"])
def test_the_large_presets_have_pairs_and_single_responses_of_mathematics(name: str) -> None:
    assert {"hf:nvidia/OpenMathInstruct-1:pairs", "hf:nvidia/OpenMathInstruct-1:singles"} < {*load(name).data.train}


@pytest.mark.parametrize("name", SHIPPED)
def test_the_public_sets_of_a_preset_have_a_reader(name: str) -> None:
    for source in (*load(name).data.train, *load(name).data.heldout):
        if source.startswith("hf:"):
            assert source.removeprefix("hf:") in hf_sets.SETS


@pytest.mark.parametrize(
    "waits", [("redis.claim_timeout_s=120", "waits.heartbeat_s=20"), ("redis.claim_timeout_s=10", "waits.heartbeat_s=60")]
)
def test_several_heartbeats_fit_in_the_time_after_which_claims_lapse_or_a_process_counts_as_dead(
    waits: tuple[str, str],
) -> None:
    config = load("tiny", waits)
    assert config.heartbeat_interval_s <= config.redis.claim_timeout_s / 4
    assert config.heartbeat_interval_s <= config.waits.heartbeat_s / 4


def test_derived_values() -> None:
    config = load("tiny", ["grpo.max_staleness=3", "grpo.batch_groups=16", "model.context=500", "rollout.max_new_tokens=100"])
    assert config.credit == 64  # (3 + 1) * 16
    assert config.max_prompt_tokens == 400
    assert config.dtype == "float32"
    assert load("qwen3-8b").dtype == "bfloat16"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("grpo.lrr=1", "unknown key grpo.lrr: did you mean grpo.lr?"),
        ("gropo.lr=1", "unknown key gropo: did you mean grpo?"),
        ("grpo.lr=fast", "grpo.lr: .*number.*found 'fast'"),
        ("grpo.steps=1.5", "grpo.steps: .*integer.*found 1.5"),
        ("grpo.steps=true", "grpo.steps: .*integer.*found True"),
        ("grpo.max_staleness=-1", "grpo.max_staleness: .*greater than or equal to 0, found -1"),
        ("grpo.lr=.nan", "grpo.lr: "),
        ("rollout.samples=1", r"rollout.samples = 1: a group needs G >= 2"),
        (
            "rollout.top_p=0.9",
            r"rollout.top_p: truncated sampling biases the importance weight.*top_p 1.0.*leave the key out",
        ),
        ("rollout.top_p=1.0", r"rollout.top_p: truncated sampling biases the importance weight"),
        ("rollout.orders=0", "rollout.orders: .*greater than or equal to 1, found 0"),
        ("rollout.orders=3", r"rollout.orders = 3 must be 1 or even: orders are balanced in pairs"),
        ("rollout.orders=6", r"rollout.samples = 8 completions cannot be spread evenly over rollout.orders = 6 .*multiple"),
        ("rollout.top_k=50", r"rollout.top_k: truncated sampling biases the importance weight.*top_k -1"),
        ("learner.ranks=3", r"8 x 8 = 64 completions cannot be divided evenly among learner.ranks = 3"),
        ("meta_rm.max_backlog=4", r"meta_rm.max_backlog = 4 groups hold fewer completions than meta_rm.batch = 64"),
        ("rollout.max_new_tokens=256", r"rollout.max_new_tokens = 256 leaves no room for a prompt in model.context = 256"),
        ("learner.micro_tokens=100", r"learner.micro_tokens = 100 cannot hold one sequence of model.context = 256"),
        ("prompts.template_path=nowhere.txt", r"prompts.template_path = 'nowhere.txt': no such file"),
        ("meta_rm.template_path=nowhere.txt", r"meta_rm.template_path = 'nowhere.txt': no such file"),
        ("cold_start.teacher=nowhere.jsonl", "cold_start.teacher = 'nowhere.jsonl': no such file; .*or an endpoint"),
        ("cold_start.teacher=http://host:8000/v1", "name the model that it serves in cold_start.teacher_model"),
        ("cold_start.teacher_model=judge", "cold_start.teacher_model = 'judge' is a served model: give its address"),
        ("run.id=../escape", "run.id: "),
        ("learner.zero_stage=4", "learner.zero_stage: .*0, 1, 2 or 3"),
        ("data.train=[]", "data.train: "),
        ("grpo.lr", "write section.key=value"),
        ("lr=1", "write section.key=value"),
        ("grpo.lr=[", "the value is not YAML"),
        ("run.seed=0b_", "run.seed: .*integer.*found '0b_'"),
        ("run.seed=2001-99-99", "run.seed: .*integer.*found '2001-99-99'"),
        ("run.seed=0x_", "the value is not YAML"),
        ("run.seed=!!int ''", "the value is not YAML"),
        ("run.seed=!!bool x", "the value is not YAML"),
        ("run.seed=!!timestamp x", "the value is not YAML"),
        (f"run.seed={'9' * 5000}", "the value is not YAML"),
        (f"run.seed={'[' * 2000}", "the value is not YAML"),
        ("data.train=[&a x, *a]", r"the value is not YAML: line 1: an alias \(\*name\)"),
        (f"run.seed=0x{'f' * 6000}", "run.seed: .*less than or equal to 9007199254740992, found a number of absurd size"),
        (f"prompts.template_path={'x' * 300}", "prompts.template_path = 'x+': no such file"),
    ],
)
def test_what_is_wrong_is_named_with_its_number(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load("tiny", [override])


def test_a_password_in_a_teachers_address_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError, match="leave user and password out of the address") as error:
        load("tiny", ["cold_start.teacher=http://me:hunter2@host/v1", "cold_start.teacher_model=judge"])
    assert "hunter2" not in str(error.value)


def test_all_problems_come_in_one_message() -> None:
    with pytest.raises(ConfigError) as error:
        load("tiny", ["rollout.samples=1", "cold_start.samples=1", "grpo.max_staleness=0"])
    assert "rollout.samples = 1" in str(error.value)
    assert "cold_start.samples = 1" in str(error.value)
    with pytest.raises(ConfigError) as error:
        load("tiny", ["rollout.top_p=0.5", "grpo.lrr=1"])
    assert "rollout.top_p: truncated" in str(error.value)
    assert "unknown key grpo.lrr" in str(error.value)


# ---- where an error comes from ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "override", ["grpo.lrr=1", "gropo.lr=1", "grpo.lr=fast", "rollout.top_p=0.9", "rollout.samples=1", "learner.ranks=3"]
)
def test_an_error_of_an_override_names_the_command_line_and_not_the_preset(override: str) -> None:
    with pytest.raises(ConfigError, match=r"^command line: ") as error:
        load("tiny", [override])
    assert override.partition("=")[0].split(".")[0] in str(error.value)
    assert "tiny.yaml" not in str(error.value)


def test_an_engine_of_several_processes_has_gpus_of_its_own_and_whole_weights() -> None:
    assert load("tiny", ["rollout.tensor_parallel=2"]).rollout.tensor_parallel == 2
    with pytest.raises(ConfigError, match=r"share_gpu = true has one GPU, but rollout.tensor_parallel = 2: set 1"):
        load("tiny", ["cluster.device=cuda", "cluster.share_gpu=true", "rollout.tensor_parallel=2"])
    with pytest.raises(ConfigError, match=r"learner.lora_rank = 8 and rollout.tensor_parallel = 2: adapters are loaded by"):
        load("tiny", ["learner.lora_rank=8", "rollout.tensor_parallel=2"])


def test_only_what_is_divided_among_ranks_can_be_offloaded() -> None:
    offloaded = "learner.optimizer_offload=true"
    assert load("tiny", [offloaded]).learner.optimizer_offload
    with pytest.raises(ConfigError) as error:
        load("tiny", [offloaded, "learner.zero_stage=0", "meta_rm.zero_stage=0"])
    for name in ("learner", "meta_rm"):
        assert f"needs {name}.zero_stage >= 1, and it is 0: set {name}.zero_stage=1" in str(error.value)
    load("tiny", [offloaded, "meta_rm.zero_stage=0", "meta_rm.enabled=false"])


def test_errors_of_a_file_name_the_file_also_beside_those_of_overrides(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    good = 'model: {path: tiny, context: 256}\ndata: {train: ["tiny:1:9"], heldout: ["tinyheld:1:9"]}\n'
    file.write_text(good + "rollout: {samples: 1, max_new_tokens: 64}\nlearner: {micro_tokens: 100}\n")
    with pytest.raises(ConfigError) as error:
        load(file, ["rollout.samples=1", "grpo.lr=1e-6"])
    problems = re.fullmatch(r"command line: (.*); (\S+mine\.yaml): (.*)", str(error.value))
    assert problems is not None, error.value
    assert problems[1].startswith("rollout.samples = 1")
    assert problems[3].startswith("learner.micro_tokens = 100")
    with pytest.raises(ConfigError) as error:  # the closest known key is not the wrong one
        load(file, ["learner.micro_tokens=256", "grpo.lr=1e-6", "grpo.lrx=1"])
    assert str(error.value) == "command line: unknown key grpo.lrx: did you mean grpo.lr?"
    file.write_text(good + "grpo: {lrx: 1}\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml: unknown key grpo\.lrx"):
        load(file, ["grpo.lr=1e-6"])


@pytest.mark.parametrize("argument", ["grpo.lr=1", "gropo.lr=1", "data.train=a=b.jsonl", "run.seed="])
def test_what_is_an_override(argument: str) -> None:
    assert is_override(argument)


@pytest.mark.parametrize(
    "argument", ["dt=2026/x.jsonl", "a.jsonl", "./run.seed=3", "/data/a.b=1/x.jsonl", "hf:a/b@dt=1", "tiny:1:2", "=", "a.b"]
)
def test_what_is_a_file_with_an_equals_sign(argument: str) -> None:
    assert not is_override(argument)


def test_a_file_that_exists_is_no_override_unless_it_is_called_like_a_leaf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("part.a=1", "run.seed=3"):
        (tmp_path / name).write_text("")
    assert not is_override("part.a=1")
    assert is_override("run.seed=3")


@pytest.mark.parametrize("name", ["huge", "x" * 5000, "nul \x00", "/"])
def test_no_such_preset_lists_them(name: str) -> None:
    with pytest.raises(
        ConfigError,
        match=r"presets are gemma2-27b, llama3\.3-70b, qwen3-0\.6b-1gpu, .*qwen3-8b, real-text, smollm2-135m, tiny$",
    ):
        load(name)


@pytest.mark.parametrize(
    "text",
    ['"\\e[2J\\u202e": 1', 'run: {"\\e[2J": 1}', 'run: {seed: "\\e[2J"}', "run: {seed: '\u202e", "a: \u202e: b"],
)
def test_an_error_never_brings_along_what_a_terminal_acts_on(text: str, tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert str(caught.value).isprintable()


def test_an_error_quotes_the_head_of_a_long_value() -> None:
    with pytest.raises(ConfigError) as caught:
        load("tiny", [f"run.seed={'x' * 100_000}"])
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("text", ["- a\n- b\n", "model: [\n", "", "7"])
def test_files_that_are_no_config(text: str, tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"x\.yaml"):
        load(file)


def test_a_learning_rate_may_be_written_as_people_do() -> None:
    assert load("tiny", ["grpo.lr=1e-6"]).grpo.lr == 1e-6
    assert load("tiny", ["grpo.lr=5E-4"]).grpo.lr == 5e-4


def test_one_file_needs_no_list() -> None:
    assert load("tiny", ["data.train=a.jsonl"]).data.train == ["a.jsonl"]


def test_a_password_is_not_written_down() -> None:
    text = dump(load("tiny", ["redis.url=redis://:hunter22@127.0.0.1:6380/0"]))
    assert "hunter22" not in text
    assert "redis://:***@127.0.0.1:6380/0" in text


def test_a_masked_password_is_none(tmp_path: Path) -> None:
    """Else a resumed run would send the mask, and not ask the environment."""
    copy = tmp_path / "config.yaml"
    for url, left in (("redis://:hunter22@h:1/0", "redis://@h:1/0"), ("rediss://me:hunter22@h", "rediss://me@h")):
        copy.write_text(dump(load("tiny", [f"redis.url={url}"])), encoding="utf-8")
        assert load(copy).redis.url == left


@pytest.mark.parametrize("url", ["redis://h?password=hunter22", "redis://h/0?db=1&password=hunter22"])
def test_a_password_that_would_be_written_down_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="SPCT_REDIS_PASSWORD") as refused:
        load("tiny", [f"redis.url={url}"])
    assert "hunter22" not in str(refused.value)


@pytest.mark.parametrize(("low", "high"), [(4, 2), (1, 0)])
def test_autoscaling_between_two_numbers(low: int, high: int) -> None:
    with pytest.raises(ConfigError, match=f"autoscale_min = {low} is over rollout.autoscale_max = {high}"):
        load("tiny", [f"rollout.autoscale_min={low}", f"rollout.autoscale_max={high}"])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
        max_leaves=6,
    )
)
def test_any_tree_is_a_config_or_a_config_error(value: object) -> None:
    for tree in ({"model": value}, {"grpo": value}, value if isinstance(value, dict) else {}):
        with pytest.raises(ConfigError):
            parse(tree)
