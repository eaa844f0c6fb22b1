"""The W&B ids of a run that is resumed: a session, from a start to its end, must never write over another when it is synced.

    session      W&B id                       group
    1            <run>                        <run>
    2, offline   <run>.resumed-2              <run>
    2, online    <run>, which W&B resumes     <run>       if session 1 was online too, else <run>.resumed-2

An offline session cannot go on under the id of another one. `wandb sync` stops at a session that was killed, whose file ends in
the middle of a record, and never comes to the later ones of that id; and without W&B's own resume the steps of each begin at 0
again. Under ids of their own each session is uploaded by itself, in any order; one group joins them, and so do the axes of our
metrics, which count on (`METRICS`).
"""

import re
from pathlib import Path
from typing import Literal

LONGEST = 64  # characters of an id
SESSION = re.compile(r"(offline-)?run-\d{8}_\d{6}-(.+)")  # a session's folder


def session_id(run_folder: Path, run_id: str, mode: Literal["online", "offline"]) -> str:
    """Returns the W&B id of the session that begins.

    Args:
        run_folder: The folder of the run, in which `wandb/` holds a folder of each earlier session.
        run_id: The id of the run.
        mode: How the session is tracked.
    """
    sessions = [SESSION.fullmatch(folder.name) for folder in (run_folder / "wandb").glob("*run-*")]
    taken = {found[2] for found in sessions if found and (found[1] or mode == "offline")}
    candidate, number = run_id, 1
    while candidate in taken:
        number += 1
        suffix = f".resumed-{number}"
        candidate = run_id[: LONGEST - len(suffix)] + suffix
    return candidate
