"""What an evaluation would do: its data, what stands already, what would be asked, and prompts that do not fit.

Nothing starts, no server is asked, and nothing is written.
"""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from configs.schema import Config
from grm.preferences import Preference
from grm.prompts import template_notes
from launch.judging import votes
from launch.judging.endpoint import CHARACTERS_PER_TOKEN, without_special_tokens
from launch.judging.evaluation_checks import check_place, checked, labelled_preferences, require_same_data
from launch.judging.evaluation_target import JUDGEMENTS, EvaluationTarget
from launch.judging.scalar_evaluation import scalar_tokenizer
from launch.judging.scalar_scores import chats_of, is_scored
from launch.judging.vote_plan import vote_plan
from launch.monitoring.plain_text import clean_lines, log_line
from launch.setup.data_report import figures
from launch.setup.prompt_source import prompt_template

HEAD, TAIL = 500, 1500  # characters of the first prompt, of its beginning and of its end


def describe_evaluation(config: Config, target: EvaluationTarget) -> None:
    """Print what `evaluate` would do. Errors as of it, as far as they are found before anything starts."""
    loaded = labelled_preferences(config, lambda text: print(log_line(text)))
    preferences = loaded.preferences
    require_same_data(target.out, config.data.heldout)
    meta_rm, tokenizer = checked(config, target)
    plan = vote_plan(config, prompt_template(config), max(config.eval.votes, default=0))
    stored, early = votes.rows_on_disk(target.out / JUDGEMENTS), target.early_stop
    enough = replace(plan, early_stop=early)  # what more it asks for is not known before its answers: `plan` at most
    missing = [p for p in preferences if not votes.holds_all(stored.get(p.question.id, {}), p, enough)]
    begun = {p.question.id: row for p in missing if votes.holds_question(row := stored.get(p.question.id, {}), p)}
    escape = without_special_tokens if tokenizer is None else tokenizer.escape_special_tokens
    wanted = {p.question.id: votes.lacking(begun.get(p.question.id, {}), p, plan) for p in missing}
    asked = votes.requests_of(plan, missing, escape, wanted)
    counts = {kind: sum(len(each.places) for each in asked if each.kind == kind) for kind in ("greedy", "vote")}
    lines = [f"{'used':<10} {len(preferences):,} preferences", *figures(preferences), *_subsets(preferences)]
    lines += [f"{'note':<10} {note}" for note in template_notes(plan.template)]
    lines += [_standing(preferences, missing, target)]
    if asked:
        judgements = f"{counts['greedy']:,} greedy judgements and {'up to ' if early else ''}{counts['vote']:,} votes"
        how = "in rounds" if early else f"in {len(asked):,} requests"
        lines += [f"{'asks':<10} {judgements}, up to {plan.max_new_tokens:,} tokens each, {how}"]
        texts = list(dict.fromkeys(each.request.message for each in asked))
        if tokenizer is not None:
            lines += [_tokens([len(tokenizer.encode(text)) for text in texts], config.max_prompt_tokens)]
        else:
            lines += [_estimated(texts)]
        lines += [*_first(asked[0].id, asked[0].request.message)]
    if meta_rm:
        lines += [f"{'meta-RM':<10} {meta_rm}"]
    print(clean_lines("\n".join(lines)))


def describe_scalar_evaluation(config: Config, target: EvaluationTarget) -> None:
    """Print what `evaluate_scalar` would do. Errors as of it, as far as they are found before anything starts."""
    loaded = labelled_preferences(config, lambda text: print(log_line(text)))
    preferences = loaded.preferences
    require_same_data(target.out, config.data.heldout)
    check_place(config, target)
    tokenizer = scalar_tokenizer(config, target)
    stored = votes.rows_on_disk(target.out / JUDGEMENTS)
    missing = [p for p in preferences if not is_scored(stored.get(p.question.id, {}), p)]
    lines = [f"{'used':<10} {len(preferences):,} preferences", *figures(preferences), *_subsets(preferences)]
    lines += [_standing(preferences, missing, target)]
    chats = list(dict.fromkeys(chat for p in missing for chat in chats_of(p.question)))
    if chats:
        lines += [f"{'asks':<10} {len(chats):,} scores, one for each response"]
        if tokenizer is not None:
            from launch.judging.scalar_scorers import chat_ids  # transformers takes seconds to import

            lines += [_tokens([len(chat_ids(tokenizer, chat)) for chat in chats], config.model.context)]
        else:
            lines += [_estimated(["".join(chat) for chat in chats])]
    print(clean_lines("\n".join(lines)))


def _subsets(preferences: Sequence[Preference]) -> list[str]:
    names = sorted({preference.subset for preference in preferences})
    counts = [f"{name or 'none'} {sum(each.subset == name for each in preferences):,}" for name in names]
    return [f"{'subsets':<10} {', '.join(counts)}"] if names[1:] else []


def _standing(preferences: Sequence[Preference], missing: Sequence[Preference], target: EvaluationTarget) -> str:
    done = len(preferences) - len(missing)
    return f"{'stands':<10} {done:,} of {len(preferences):,} preferences are judged already in {target.out}"


def _tokens(counts: Sequence[int], limit: int) -> str:
    over = sum(count > limit for count in counts)
    each = f"{fmean(counts):,.0f} in the mean, {max(counts):,} at most"
    return f"{'tokens':<10} {sum(counts):,} of {len(counts):,} prompts, {each}; {over:,} are over the limit of {limit:,}"


def _estimated(texts: Sequence[str]) -> str:
    tokens = sum(map(len, texts)) // CHARACTERS_PER_TOKEN
    return (
        f"{'tokens':<10} about {tokens:,} of {len(texts):,} prompts ({CHARACTERS_PER_TOKEN} characters each; the server counts)"
    )


def _first(name: str, text: str) -> list[str]:
    shown = text if len(text) <= HEAD + TAIL else f"{text[:HEAD]} […] {text[-TAIL:]}"
    return [f"{'prompt':<10} the first, of {name}:", *(f"           {line}" for line in shown.splitlines())]
