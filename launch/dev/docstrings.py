"""Real text that every machine with Python has: what the standard library's documentation says in one sentence.

    stdlib/tempfile.py ─▶ def mkdtemp, its docstring ─▶ ("What does tempfile.mkdtemp do in Python?", "User-callable ...")

Nothing is imported: sources are parsed. Another Python version has a few other sentences.
"""

import ast
import os
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

LEFT_OUT = frozenset({"test", "tests", "idlelib", "turtledemo", "lib2to3", "site-packages", "dist-packages"})
WORDS = range(6, 23)  # of a sentence

_SENTENCE_END = re.compile(r"(?<=[.])\s")


def answers(root: Path | None = None) -> list[tuple[str, str]]:
    """Return pairs of a question about a public function or class and the first sentence of its docstring, sorted.

    Sentences of other than `WORDS` words are left out, and so are those that stand at more than one place.

    Args:
        root: Folder of Python sources; None: the standard library.
    """
    root = root or Path(sysconfig.get_paths()["stdlib"])
    sentences = dict[str, str]()
    places = dict[str, list[str]]()
    for file in _sources(root):
        module = ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        for name, sentence in _documented(file):
            sentences.setdefault(f"{module}.{name}", sentence)
            places.setdefault(sentence, []).append(name)
    return sorted(
        (f"What does {name} do in Python?", sentence) for name, sentence in sentences.items() if len(places[sentence]) == 1
    )


def _sources(root: Path) -> Iterator[Path]:
    """Yield the source files of public modules."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in LEFT_OUT and not name.startswith("_"))
        for name in sorted(files):
            if name.endswith(".py") and (not name.startswith("_") or name == "__init__.py"):
                yield Path(folder, name)


def _documented(file: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and the first sentence of each public function and class that has one, in a file that can be parsed."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return  # templates and samples of other encodings: nothing to read
    yield from _documented_in(tree, "")


def _documented_in(node: ast.Module | ast.ClassDef, owner: str) -> Iterator[tuple[str, str]]:
    """Yield the same of what a module or a class defines; `owner` is what stands before a name there."""
    for child in node.body:
        if isinstance(child, ast.FunctionDef | ast.ClassDef) and not child.name.startswith("_"):
            sentence = first_sentence(ast.get_docstring(child) or "")
            if sentence.endswith(".") and len(sentence.split()) in WORDS:
                yield f"{owner}{child.name}", sentence
            if isinstance(child, ast.ClassDef):
                yield from _documented_in(child, f"{owner}{child.name}.")


def first_sentence(text: str) -> str:
    """Return the first sentence of a text's first paragraph, on one line."""
    paragraph = " ".join(text.strip().split("\n\n")[0].split())
    return _SENTENCE_END.split(paragraph)[0]
