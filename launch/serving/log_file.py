"""The server's log: a file to which all of its processes add lines, an object each."""

import json
import logging
from logging.handlers import WatchedFileHandler
from pathlib import Path


def log_to(file: Path) -> None:
    """Lets this process add its lines to the server's log: an object each. Whoever moves the file away gets a fresh one."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handler = WatchedFileHandler(file, encoding="utf-8")
    handler.setFormatter(_Lines())
    for name in ("spct.requests", "launch.serving"):
        logging.getLogger(name).addHandler(handler)
        logging.getLogger(name).setLevel(logging.INFO)


class _Lines(logging.Formatter):
    """A line of JSON for each record."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line."""
        head = {"time": round(record.created, 3), "level": record.levelname.lower(), "process": record.process}
        told = record.args if isinstance(record.args, dict) else {"message": record.getMessage()}
        return json.dumps(head | dict(told), ensure_ascii=False)
