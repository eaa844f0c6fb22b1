"""The page of an evaluation: what was evaluated, warnings, votes, benchmarks, all figures, and unparsed judgements to read."""

import string
from collections.abc import Mapping
from dataclasses import asdict

from grm.benchmarks import COUNTS, TableRow
from launch.judging.answer_quality import describe_reasons, describe_spared, warnings
from launch.judging.evaluated import Evaluated
from launch.judging.figure_meanings import meaning, meanings
from launch.judging.figure_names import DECIMALS, by_votes, cell
from launch.judging.results_headline import BASELINES, headline
from launch.page.headline import bar, big_share
from launch.page.judgements import judged, prose
from launch.page.markup import Markup, join, tag
from launch.page.number_format import percent
from launch.page.run_page import TEMPLATE
from launch.page.scaling import scaling_card

HOW_TO_READ = (
    "Each figure is followed by its 95 % interval; over a column stands how many preferences it is of. With few of them"
    " differences within the intervals mean nothing. Below stands what each name means."
)


def page(found: Evaluated, failed: Mapping[str, str]) -> str:
    """Draw the page; `failed` is without secrets."""
    rows, model = found.rows, str(found.named["model"])
    overall = {name: asdict(figure) for name, figure in rows[-1].figures.items()}
    card = scaling_card(overall, title="Accuracy over votes", what="Votes are summed; guided: the better half by the meta-RM.")
    columns = [rows[-1], *rows[:-1]]  # all rows first: with many subsets the page scrolls sideways
    head = tag("tr", tag("th", ""), *(tag("th", f"{row.subset or 'no subset'} ({row.rows})") for row in columns))
    lines = [tag("tr", _named(name), *(tag("td", _shown(name, row)) for row in columns)) for name in rows[-1].figures]
    notices = [tag("p", warning, class_="notice") for warning in (*found.notes, *warnings(found.quality))]
    if failed:
        notices.append(tag("p", f"{len(failed)} preference{'s' * (len(failed) != 1)} got no answer.", class_="notice"))
    over = tag("div", tag("b", "SPCT evaluation"), tag("span", model), class_="over")
    sections = [tag("header", over, _headline(found), *notices)]
    sections.append(_about(found))
    if card:
        sections.append(
            tag("section", tag("h2", "Inference-time scaling"), tag("div", card, class_="grid"), _votes_grid(rows[-1]))
        )
    if found.aggregates:
        sections.append(_benchmarks(found))
    table = tag("div", tag("table", head, *lines, class_="figures"), class_="wide")
    sections.append(tag("section", tag("h2", "Figures"), tag("p", HOW_TO_READ), table, _meanings(rows[-1])))
    if found.samples:
        sections.append(judged(found.samples))
    if found.quality.reasons:
        sections.append(_unparsed(found))
    template = string.Template(TEMPLATE.read_text(encoding="utf-8"))
    return template.substitute(title=join([f"SPCT evaluation · {model}"]), body=join(sections))


def _headline(found: Evaluated) -> Markup | None:
    """Draw the result: the main figure large, in a sentence, and beside judges without a model."""
    result = headline(found)
    if result is None:
        return None
    title = "ROC-AUC of single responses" if result.figure == "auc_greedy" else "Accuracy of one judgement"
    big = tag("div", *big_share(result.value.value), class_="big")
    bars = [bar("one judgement", result.value.value, "after", (result.value.low, result.value.high))]
    if result.votes:
        count, votes = result.votes
        bars.insert(0, bar(f"{count} votes", votes.value, "before", (votes.low, votes.high)))
    bars += [bar(BASELINES[name], figure.value, "") for name, figure in result.baselines.items()]
    left = tag("div", tag("h1", title), big, tag("p", result.sentence))
    return tag("div", left, tag("div", *bars, class_="bars"), class_="headline")


def _named(name: str) -> Markup:
    """Draw the name of a figure as the head of its line; a pointer that rests on it shows what it means."""
    return tag("th", name, title=meaning(name) or None)


def _meanings(overall: TableRow) -> Markup:
    """Draw what each figure of the table means, for those who have no pointer, and on paper."""
    lines = [tag("tr", tag("th", kind), tag("td", words)) for kind, words in meanings(overall.figures).items()]
    table = tag("div", tag("table", *lines, class_="figures about"), class_="wide")
    return tag("details", tag("summary", "What the figures mean"), table, class_="box", open="")


def _votes_grid(overall: TableRow) -> Markup:
    """Draw the figures of votes: a line per kind, a column for each number of votes."""
    ks, by_k = by_votes(overall)
    head = tag("tr", tag("th", "k votes"), *(tag("th", f"{k}") for k in ks))
    lines = [
        tag("tr", _named(kind), *(tag("td", _shown(names.get(k, ""), overall)) for k in ks)) for kind, names in by_k.items()
    ]
    return tag("div", tag("table", head, *lines, class_="figures"), class_="wide")


def _about(found: Evaluated) -> Markup:
    """Draw what was evaluated, and the answers in numbers."""
    quality = found.quality
    lines = {name: value for name, value in found.named.items() if value not in ("", None, [], {})}
    if skipped := found.named.get("skipped"):
        lines["skipped"] = ", ".join(f"{count} x {reason}" for reason, count in skipped.items())
    lines["preferences"] = found.rows[-1].rows
    lines["judgements"] = f"{quality.judgements}, {quality.parsed} parsed"
    if quality.dates:
        lines["judged on"] = " to ".join(dict.fromkeys(quality.dates))
    if quality.fingerprints:
        lines["system_fingerprint"] = ", ".join(f"{name} ({count})" for name, count in quality.fingerprints.items())
    if quality.spared:
        lines["early stop"] = describe_spared(quality)
    if quality.prompt_tokens:
        lines["tokens"] = f"{quality.prompt_tokens:,} of prompts, {quality.completion_tokens:,} of answers"
    body = [tag("tr", tag("th", name.replace("_", " ")), tag("td", _plain(value))) for name, value in lines.items()]
    return tag(
        "section", tag("h2", "What was evaluated"), tag("div", tag("table", *body, class_="figures about"), class_="wide")
    )


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(each)}" for name, each in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _benchmarks(found: Evaluated) -> Markup:
    """Draw the figures of known benchmarks, each with its rule."""
    names = ("benchmark", "figure", "value")
    head = tag("tr", *(tag("th", name) for name in names), tag("td", "rule", class_="words"))
    lines = []
    for each in found.aggregates:
        value: Markup | str = f"missing: {', '.join(each.missing[:3])}"
        if each.figure is not None:
            interval = f" {percent(each.figure.low)} – {percent(each.figure.high)}"
            value = join([percent(each.figure.value), tag("small", interval)])
        name = f"\u2003{each.part}" if each.part else each.benchmark
        lines.append(
            tag(
                "tr",
                tag("th", name),
                tag("td", each.name),
                tag("td", value),
                tag("td", "" if each.part else each.rule, class_="words"),
            )
        )
    return tag("section", tag("h2", "Benchmarks"), tag("div", tag("table", head, *lines, class_="figures"), class_="wide"))


def _unparsed(found: Evaluated) -> Markup:
    """Draw why judgements did not parse, and a few of them."""
    quality = found.quality
    count = (
        f"{quality.judgements - quality.parsed} of {quality.judgements} judgements did not parse: {describe_reasons(quality)}."
    )
    shown = [
        tag("article", tag("h3", f"{each.id} · {each.kind} · {each.reason}"), prose(each.text or each.thought or "(nothing)"))
        for each in quality.to_read
    ]
    return tag("section", tag("h2", "Unparsed judgements"), tag("p", count), *shown)


def _shown(name: str, row: TableRow) -> Markup | str:
    figure = row.figures.get(name)
    if figure is None:
        return ""
    kind = name.partition("@")[0]
    value, low, high = (
        percent(each) if kind not in (*COUNTS, *DECIMALS) else cell(name, each)
        for each in (figure.value, figure.low, figure.high)
    )
    return join([value, tag("small", f" {low} – {high}")])
