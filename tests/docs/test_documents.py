"""What the documents name exists: paths, tests, scripts, metric families, settings, sections."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from configs.load import presets
from configs.schema import Config
from launch.monitoring.metrics import METRICS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/design.md",
    "docs/algorithm.md",
    "docs/gpu.md",
    "docs/data.md",
    "docs/evaluation.md",
    "docs/judge.md",
    "docs/serving.md",
    "docs/performance.md",
    "docs/README.md",
    "docs/quickstart.md",
    "docs/own_data.md",
    "docs/own_model.md",
    "docs/cluster.md",
    "docs/metrics.md",
    "docs/tracking.md",
    "docs/stop_and_resume.md",
    "docs/publishing.md",
    "docs/extending.md",
    "docs/troubleshooting.md",
    "docs/faq.md",
    "docs/peers.md",
    "docs/results.md",
    "docs/robustness.md",
)
ROOMS = ("actors", "buffer", "configs", "docs", "examples", "grm", "launch", "learner", "packaging", "recipes", "spct", "tests")
FAMILIES = {name.partition("/")[0] for name in METRICS}
INVARIANTS = ("I1", "I2", "I3", "I4", "I5", "I6", "I7")


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def quoted(text: str) -> Iterator[str]:
    """Code spans, without those of fenced blocks."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return (match[1].replace("\n", " ") for match in re.finditer(r"`([^`]+)`", prose))


@cache
def functions(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8") if path.exists() else "")
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@cache
def definitions(path: Path) -> frozenset[str]:
    """Names that a module defines, at any depth: functions, classes, and what is assigned to a plain name."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8") if path.exists() else "")))
    assigned = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return frozenset(assigned | {node.name for node in nodes if isinstance(node, kinds)})


@cache
def classes() -> dict[str, frozenset[str]]:
    """{class: names defined in it}, of all packages."""
    found: dict[str, frozenset[str]] = {}
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                members = {item.name for item in ast.walk(node) if isinstance(item, ast.FunctionDef)}
                members |= {
                    item.id for item in ast.walk(node) if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store)
                }
                found[node.name] = found.get(node.name, frozenset()) | members
    return found


@cache
def headings(document: Path) -> frozenset[str]:
    """Anchors of a document's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_that_a_document_names_exists(document: str) -> None:
    named = set(re.findall(rf"(?<![\w/.<])(?:{'|'.join(ROOMS)})/[\w./-]*\w", text_of(document)))
    paths = {path for path in named if not re.search(r"[A-Z]{3}", path) and path not in METRICS}
    assert paths or document not in ("README.md", "docs/design.md")
    assert sorted(path for path in paths if not (ROOT / path).exists()) == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_that_is_named_without_its_folder_exists(document: str) -> None:
    """Scripts and modules alone; other files may be those of a run."""
    names = {word for span in quoted(text_of(document)) for word in re.findall(r"^[\w]+\.(?:lua|py)$", span)}
    missing = [name for name in names if not any(any((ROOT / room).rglob(name)) for room in ROOMS)]
    assert sorted(missing) == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_to_a_file_and_a_heading(document: str) -> None:
    for target, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", text_of(document)):
        file = (ROOT / document).parent / target if target else ROOT / document
        assert file.exists(), f"{document}: {target}"
        assert not anchor or anchor in headings(file), f"{document}: {target}#{anchor}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_test_that_a_document_names_exists(document: str) -> None:
    named = re.findall(r"(tests/[\w/]+\.py)::(\w+)", text_of(document))
    assert [f"{path}::{name}" for path, name in named if name not in functions(ROOT / path)] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_name_beside_its_module_is_defined_there(document: str) -> None:
    """As in: path (name), or: name in path."""
    text, path = text_of(document), rf"`((?:{'|'.join(ROOMS)})/[\w/]+\.py)`"
    named = re.findall(rf"{path},?\s\(?`(\w+)`", text)
    named += [(module, name) for name, module in re.findall(rf"`(\w+)`\sin\s{path}", text)]
    assert [f"{module}: {name}" for module, name in named if name not in definitions(ROOT / module)] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_class_that_a_document_names_exists(document: str) -> None:
    """Names in CamelCase, with a member behind the dot or without. Section 8 of the design names those of other libraries."""
    own = text_of(document).partition("\n## 8. ")[0]
    named = {span.partition(".") for span in quoted(own) if re.fullmatch(r"[A-Z]+[a-z]\w*(?:\.\w+)?", span)}
    missing = [
        (name, member) for name, _, member in named if name not in classes() or (member and member not in classes()[name])
    ]
    assert sorted(missing) == []


def test_every_script_has_a_place_in_the_design() -> None:
    """Scripts that change nothing are read by reports alone; fragments are included by others."""
    design = text_of("docs/design.md")
    changing = {
        path.name
        for path in (ROOT / "buffer" / "lua").glob("*.lua")
        if re.search(r"'(XADD|XACK|ZADD|SET|HSET|HINCRBY|XTRIM|XGROUP|XCLAIM)'", path.read_text(encoding="utf-8"))
    }
    assert sorted(name for name in changing if f"`{name}`" not in design and f" {name}" not in design) == []


def test_each_invariant_names_its_keeper_its_tests_and_an_example() -> None:
    sections = re.findall(r"^#### (I\d)(.*?)(?=^###|^## )", text_of("docs/design.md"), flags=re.MULTILINE | re.DOTALL)
    assert tuple(name for name, _ in sections) == INVARIANTS
    for name, section in sections:
        assert re.search(r"^- Kept by ", section, flags=re.MULTILINE), name
        assert re.search(r"^- Tests: `tests/", section, flags=re.MULTILINE), name
        assert re.search(r"^- Example", section, flags=re.MULTILINE), name
        assert re.search(r"^    \S", section, flags=re.MULTILINE), f"{name}: no equation"


def test_the_families_of_the_design_are_those_of_the_metrics() -> None:
    section = text_of("docs/design.md").partition("## 6. Metrics")[2].partition("\n## ")[0]
    assert {span.removesuffix("/") for span in quoted(section) if re.fullmatch(r"[a-z_]+/", span)} == FAMILIES


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_metric_that_a_document_names_exists(document: str) -> None:
    named = {span for span in quoted(text_of(document)) if re.fullmatch(r"[a-z_]+/[a-z_]+(@k)?", span)}
    metrics = {name for name in named if name.partition("/")[0] in FAMILIES and not (ROOT / name).exists()}
    assert sorted(metrics - METRICS.keys()) == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_setting_that_a_document_names_exists(document: str) -> None:
    text = text_of(document)
    sections = "|".join(Config.model_fields)
    spans = [span for span in quoted(text) if re.fullmatch(rf"(?:{sections})\.[a-z_]+(?:=.*)?", span)]
    named = {tuple(span.partition("=")[0].split(".")) for span in spans}
    named |= set(re.findall(rf"(?<![\w./])({sections})\.([a-z_]+)=", text))
    for section, leaf in named:
        fields = getattr(Config.model_fields[section].annotation, "model_fields", {})
        assert leaf in fields, f"{document}: {section}.{leaf}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_make_target_that_a_document_names_exists(document: str) -> None:
    targets = set(re.findall(r"^([\w-]+):", text_of("Makefile"), flags=re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([a-z][\w-]*)", text_of(document), flags=re.MULTILINE))
    assert sorted(named - targets) == []


def test_the_readme_names_every_preset() -> None:
    listed = text_of("README.md").partition("| preset | ")[2].partition("\n\n")[0]
    trained = [name for name in presets() if name != "evaluate"]  # which holds settings of launch/evaluate.py
    assert [name for name in trained if f"`{name}`" not in listed] == []


def test_every_section_that_the_code_cites_exists() -> None:
    numbers = set(re.findall(r"^## (\d+)\.", text_of("docs/design.md"), flags=re.MULTILINE))
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            for number in re.findall(r"design\.md,? section (\d+)", path.read_text(encoding="utf-8")):
                assert number in numbers, f"{path.relative_to(ROOT)}: section {number}"


def test_the_loop_of_the_algorithm_is_that_of_the_module() -> None:
    excerpt = text_of("docs/algorithm.md").partition("```python\n")[2].partition("```")[0]
    assert excerpt.strip()
    assert excerpt in text_of("launch/dev/synchronous.py")
