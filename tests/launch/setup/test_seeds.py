"""Every seed that is derived from `run.seed` is one that vLLM, numpy and a served model take, however large `run.seed` is."""

import pytest

from buffer.ledger import Cursor
from configs.load import load
from configs.schema import Config
from grm import sources, tiny_world
from launch.cluster.stage_actors import StageActors
from launch.driver.cold_start_sampling import plan
from launch.driver.issue import _seed as group_seed
from launch.judging.vote_plan import vote_plan
from launch.setup.model_files import TINY
from launch.setup.prompt_source import SEEDS, prompt_source, prompt_template
from launch.setup.tokenizer import Tokenizer
from learner.sft_examples import batch_at, split

LARGE = (4_256_658, 20261127, 2**32, 2**53)
DATA = tiny_world.preferences(1, 8)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(str(TINY))


def config_of(seed: int) -> Config:
    return load("tiny", [f"run.seed={seed}", "grpo.max_staleness=0"])


def engine_seeds(config: Config) -> list[int]:
    stage = object.__new__(StageActors)  # no Ray: only the settings of its engines are looked at
    stage._config, stage._model, stage._tokenizer = config, "model", None
    return [stage._engine(number).args[0].seed for number in (0, 1, 70)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("seed", LARGE)
def test_every_derived_seed_is_in_range(seed: int, tokenizer: Tokenizer) -> None:
    config = config_of(seed)
    prompts = prompt_source(config, [p.question for p in DATA], tokenizer)
    votes = vote_plan(config, prompt_template(config), 4)
    seeds: dict[str, list[int]] = {
        "engines": engine_seeds(config),
        "groups": [group_seed(config, group) for group in (0, 1, 2**40)],
        "cold start": [group.seed for group in plan(config, prompts, DATA)],
        "votes": [asked.request.seed for p in DATA for asked in votes.requests(p.question)],
    }
    for name, derived in seeds.items():
        assert derived, name
        assert all(isinstance(each, int) and 0 <= each < SEEDS <= 2**31 for each in derived), name
    assert len(set(seeds["engines"])) == 3
    assert prompts.take(Cursor(), 3)
    assert split(["a", "b", "c"], seed=seed)
    assert batch_at(list("abc"), 5, batch=2, seed=seed)


def test_two_runs_have_different_seeds() -> None:
    assert not set(engine_seeds(config_of(2**53))) & set(engine_seeds(config_of(2**53 - 1)))


def test_a_tiny_source_takes_a_date_and_more() -> None:
    for seed in LARGE:
        assert len(sources.load(f"tiny:{seed}:3").preferences) == 3
