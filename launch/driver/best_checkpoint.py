"""The checkpoint whose policy judged best while it was trained, kept whatever becomes of the other checkpoints.

evaluations ─┐
             ├▶ a version that has both, better than the best so far ─▶ checkpoints/best ─▶ best-000040/
checkpoints ─┘                                                          a link           weights, evaluation.json

The weights are hard links to those of the checkpoint. The link changes in one step, when the new folder is whole on disk: a
kill at any moment leaves the old best or the new one.

All are compared on the same questions: the first `eval.during_limit` held-out preferences, asked greedily in one order. A
difference within their noise decides, too: on 128 of them one standard error is 2 to 4 points.
"""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from buffer import files
from buffer.json_text import JsonError, read_object
from learner import checkpoint
from learner.seals import sync

BEST, EVALUATION = "best", "evaluation.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """A version and what it is worth."""

    version: int
    """Policy version."""
    figure: float
    """Held-out accuracy, 0..1; of single responses alone their ROC-AUC."""
    rows: int
    """Preferences that it is over."""


class BestCheckpoint:
    """Keeps checkpoints/best, a link to the folder of the best version. What an earlier try of the run has chosen stays until
    there is a better one."""

    def __init__(self, checkpoints: Path) -> None:
        """Changes nothing yet.

        Args:
            checkpoints: The run's folder of that name.
        """
        self._policy, self._best = checkpoints / "policy", checkpoints / BEST
        self._waiting: dict[int, Chosen] = {}  # evaluated, without a checkpoint yet

    def evaluated(self, version: int, figure: float | None, rows: int) -> None:
        """Note what a version is worth, and look."""
        if figure is not None:
            self._waiting[version] = Chosen(version=version, figure=figure, rows=rows)
        self.look()

    def look(self) -> None:
        """Keep the weights of a version that is better than the best so far, or as good and newer, if they are on disk."""
        there = set(checkpoint.versions(self._policy)) if self._waiting else set()
        for version in sorted(there & self._waiting.keys()):
            found, best = self._waiting.pop(version), chosen(self._best.parent)
            if best is None or found.figure >= best.figure:
                self._keep(found)

    def _keep(self, found: Chosen) -> None:
        """Make a folder of the version, then let the link name it; then the one before may go."""
        source, draft = checkpoint.at(self._policy, found.version), self._best.with_name(f"{checkpoint.UNFINISHED}{BEST}")
        self._remove_others()  # also of a try that was killed
        try:
            for name in checkpoint.file_names(source):
                if Path(name).parts[0] != checkpoint.ENGINE:
                    (draft / name).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                    files.link_or_copy(source / name, draft / name)
        except FileNotFoundError:  # newer checkpoints have taken its place in this moment
            shutil.rmtree(draft, ignore_errors=True)
            return
        files.write(draft / EVALUATION, json.dumps(asdict(found)) + "\n")
        for folder in (draft, *(path for path in draft.rglob("*") if path.is_dir())):
            sync(folder)
        checkpoint.point(self._best, draft.rename(self._new_name(found.version)))
        self._remove_others()

    def _new_name(self, version: int) -> Path:
        """Returns a name that no folder has: the best so far may be the same version, before it was trained again."""
        names = (self._best.with_name(f"{BEST}-{version:06d}{again}") for again in ("", "-again"))
        return next(name for name in names if not name.exists())

    def _remove_others(self) -> None:
        """Remove what the link does not name."""
        kept = self._best.resolve()
        for pattern in (f"{BEST}-*", f"{checkpoint.UNFINISHED}{BEST}"):
            for folder in self._best.parent.glob(pattern):
                if folder.is_dir() and not folder.is_symlink() and folder.resolve() != kept:
                    shutil.rmtree(folder, ignore_errors=True)


def chosen(checkpoints: Path) -> Chosen | None:
    """Returns which version is kept as the best; None where there is none."""
    try:
        return Chosen(**read_object(checkpoints / BEST / EVALUATION))
    except (OSError, JsonError, TypeError):
        return None
