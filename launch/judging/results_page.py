"""The page of an evaluation: what was evaluated, warnings, votes, benchmarks, all figures, and unparsed judgements to read."""

import string
from collections.abc import Mapping
from dataclasses import asdict

from grm.benchmarks import COUNTS, TableRow
from launch.judging.answer_quality import describe_reasons, describe_spared, warnings
from launch.judging.evaluated import Evaluated
from launch.judging.figure_names import DECIMALS, by_votes, cell
from launch.page.judgements import judged, prose
from launch.page.markup import Markup, join, tag
from launch.page.number_format import percent
from launch.page.run_page import TEMPLATE
from launch.page.scaling import scaling_card


def page(found: Evaluated, failed: Mapping[str, str]) -> str:
    """Draw the page; `failed` is without secrets."""
    rows, model = found.rows, str(found.named["model"])
    overall = {name: asdict(figure) for name, figure in rows[-1].figures.items()}
    card = scaling_card(overall, title="Accuracy over votes", what="Votes are summed; guided: the better half by the meta-RM.")
    columns = [rows[-1], *rows[:-1]]  # all rows first: with many subsets the page scrolls sideways
    head = tag("tr", tag("th", ""), *(tag("th", f"{row.subset or 'no subset'} ({row.rows})") for row in columns))
    lines = [tag("tr", tag("th", name), *(tag("td", _shown(name, row)) for row in columns)) for name in rows[-1].figures]
    notices = [tag("p", warning, class_="notice") for warning in (*found.notes, *warnings(found.quality))]
    if failed:
        notices.append(tag("p", f"{len(failed)} preference{'s' * (len(failed) != 1)} got no answer.", class_="notice"))
    sections = [tag("header", tag("div", tag("b", "SPCT evaluation"), tag("span", model), class_="over"), *notices)]
    sections.append(_about(found))
    if card:
        sections.append(
            tag("section", tag("h2", "Inference-time scaling"), tag("div", card, class_="grid"), _votes_grid(rows[-1]))
        )
    if found.aggregates:
        sections.append(_benchmarks(found))
    sections.append(
        tag("section", tag("h2", "Figures"), tag("div", tag("table", head, *lines, class_="figures"), class_="wide"))
    )
    if found.samples:
        sections.append(judged(found.samples))
    if found.quality.reasons:
        sections.append(_unparsed(found))
    template = string.Template(TEMPLATE.read_text(encoding="utf-8"))
    return template.substitute(title=join([f"SPCT evaluation · {model}"]), body=join(sections))


def _votes_grid(overall: TableRow) -> Markup:
    """Draw the figures of votes: a line per kind, a column for each number of votes."""
    ks, by_k = by_votes(overall)
    head = tag("tr", tag("th", "k votes"), *(tag("th", f"{k}") for k in ks))
    lines = [
        tag("tr", tag("th", kind), *(tag("td", _shown(names.get(k, ""), overall)) for k in ks)) for kind, names in by_k.items()
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
        "section", tag("h2", "What was evaluated"), tag("div", tag("table", *body, class_="figures facts"), class_="wide")
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
