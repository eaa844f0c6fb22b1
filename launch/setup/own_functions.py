"""The functions of the user's own that a run's config names (`grm.own_functions`), tried before anything starts."""

from configs.load import ConfigError
from configs.schema import Config
from grm.own_functions import RuleError, is_own
from grm.own_rules import try_rule


def own_functions(config: Config) -> dict[str, str]:
    """Returns {leaf: FILE.py:FUNCTION} of those in the section `grpo`."""
    grpo = config.grpo
    named = {"reward": grpo.reward, "advantages": grpo.advantages, "correction": grpo.correction}
    return {f"grpo.{leaf}": name for leaf, name in named.items() if name and (leaf == "reward" or is_own(name))}


def own_function_notes(config: Config) -> list[str]:
    """Try them all. Returns what is odd about them and may be meant. ConfigError when one cannot be used."""
    notes: list[str] = []
    for leaf, named in own_functions(config).items():
        try:
            notes += _tried(leaf, named, config)
        except RuleError as error:
            raise ConfigError(f"{leaf}: {error}") from error
    return notes


def _tried(leaf: str, named: str, config: Config) -> list[str]:
    if leaf == "grpo.reward":
        return try_rule(named)
    from learner import own_loss  # torch takes seconds to import, and most runs have no such function

    if leaf == "grpo.advantages":
        return own_loss.try_advantages(named)
    own_loss.try_correction(named, config.grpo.ratio_bounds)
    return []
