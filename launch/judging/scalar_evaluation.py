"""An evaluation of a scalar reward model: the same data, folder, figures and page as those of a judge (`evaluation_run.py`).

preferences ─▶ checked ─▶ scored (scorers on a cluster, or a server) ─▶ counted ─▶ written
"""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from configs.load import ConfigError
from configs.schema import Config
from grm.preferences import Preference
from launch.judging import votes
from launch.judging.evaluation_checks import (
    check_place,
    labelled_preferences,
    make_folder,
    model_digest,
    require_same_data,
)
from launch.judging.evaluation_end import finish, standing
from launch.judging.evaluation_judging import cluster_for
from launch.judging.evaluation_target import JUDGEMENTS, EvaluationTarget
from launch.judging.request_fields import Change
from launch.judging.same_judge import keep_known_score, record_change
from launch.judging.scalar_endpoint import ScalarEndpoint
from launch.judging.scalar_scores import ScalarModel, chats_of, collect, stored_rows
from launch.monitoring.console import ProgressDisplay, ShowActivity
from launch.monitoring.plain_text import log_line
from launch.setup.model_files import resolve
from launch.setup.places import private_files
from launch.setup.tokenizer import Tokenizer

SETTINGS = {"scalar": True}


def evaluate_scalar(config: Config, target: EvaluationTarget, progress: ProgressDisplay) -> int:
    """Score all responses, count, write and print. Returns how many preferences got no score. `progress` and errors as of
    `evaluate`."""
    if target.meta_rm:
        raise ConfigError("--meta-rm scores judgements, and a scalar reward model writes none; leave it out")
    progress.activity("reading the data")
    loaded = labelled_preferences(config, _note)
    preferences = loaded.preferences
    require_same_data(target.out, config.data.heldout)
    progress.activity("checking model, data and machine")
    check_place(config, target)
    tokenizer = scalar_tokenizer(config, target)
    path = target.out / JUDGEMENTS
    begun = str(votes.settings_of(path).get("fingerprint", ""))
    settings = {
        "model": target.model,
        "endpoint": target.endpoint,
        "fingerprint": "" if target.endpoint else model_digest(config, begun),
        "extra_body": target.extra_body,
        **SETTINGS,
    }
    votes.require_same_settings(path, settings)  # before a scorer starts
    rows = stored_rows(preferences, path=path)
    if rows is None and tokenizer is not None:
        check_scalar_lengths(tokenizer, preferences, config.model.context, _note)
    make_folder(target.out)
    if rows is None:
        with private_files(), scalar_model(config, target, tokenizer, progress.activity) as model:
            progress.activity("scoring responses")
            rows = collect(model, preferences, path=path, settings=settings, note=_note)
    else:
        _note(standing(rows))
    return finish(config, target, loaded, rows, ks=(), meta={}, settings=SETTINGS, progress=progress)


def scalar_tokenizer(config: Config, target: EvaluationTarget) -> Tokenizer | None:
    """Return the tokenizer of a model of our own, checked; None behind a server."""
    if target.endpoint:
        return None
    from launch.judging.scalar_scorers import checked_scalar  # transformers takes seconds to import

    return checked_scalar(config, resolve(config.model.path))


def long_chats(tokenizer: Tokenizer, preferences: Sequence[Preference], limit: int) -> dict[str, int]:
    """Return {preference: tokens of its longest chat} of those that are over the limit."""
    from launch.judging.scalar_scorers import chat_ids

    found = {}
    for preference in preferences:
        longest = max(len(chat_ids(tokenizer, chat)) for chat in chats_of(preference.question))
        if longest > limit:
            found[preference.question.id] = longest
    return found


def check_scalar_lengths(tokenizer: Tokenizer, preferences: Sequence[Preference], limit: int, note: votes.Notify) -> None:
    """Say which preferences are over `limit` tokens and get no score. ConfigError when none fits."""
    found = long_chats(tokenizer, preferences, limit)
    if not found:
        return
    name, tokens = next(iter(found.items()))
    which = f"{len(found)} of {len(preferences)} preferences have a response that is, with its query, over {limit} tokens"
    first = f"(model.context; the first: {name}, {tokens})"
    if len(found) == len(preferences):
        raise ConfigError(f"{which} {first}: raise model.context")
    note(f"note       {which} {first} and get no score; raise model.context")


@contextmanager
def scalar_model(
    config: Config, target: EvaluationTarget, tokenizer: Tokenizer | None, show: ShowActivity
) -> Iterator[ScalarModel]:
    """The model of an evaluation: the endpoint, checked, or scorers on a cluster. `tokenizer` is theirs; `show` gets what is
    started."""
    if target.endpoint:

        def changed(change: Change) -> None:
            if change.matters:
                record_change(target.out, change.text)
            _note(f"note       {change.text}")

        served: dict[str, Any] = {"limits": target.limits, "extra_body": target.extra_body, "note": changed}
        with closing(ScalarEndpoint(target.endpoint, target.model, **served)) as endpoint:
            try:
                if changed_since := keep_known_score(target.out, endpoint.check().value):
                    _note(f"note       {changed_since}")
                yield endpoint
            finally:
                _note(f"asked {endpoint.spent.describe()}")
        return
    from launch.judging.meta_scores import start_scorers
    from launch.judging.scalar_scorers import ScalarScorers

    assert tokenizer is not None  # only an endpoint has none
    with cluster_for(config, target, engines=False, scorers=True, show=show) as cluster:
        show("starting the scorers")
        scorers, _ = start_scorers(cluster, config, resolve(config.model.path))
        yield ScalarScorers(config, scorers=scorers, tokenizer=tokenizer)


def _note(text: str) -> None:
    print(log_line(text), flush=True)
