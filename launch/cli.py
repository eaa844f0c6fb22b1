"""What every entry shares: errors become one sentence and an exit status."""

import shutil
import sys
from collections.abc import Callable

from buffer.files import LinkError
from buffer.json_text import JsonError
from buffer.streams import ServerError
from configs.load import ConfigError
from grm.preferences import DataError
from grm.prompts import TemplateError
from launch.cluster.failures import RunFailed
from launch.judging.protocol import NotJudged
from launch.monitoring.plain_text import broken, clean_lines
from launch.page.run_page import ReportError

FAILED, REFUSED, STOPPED = 1, 2, 130
REFUSALS = (ConfigError, DataError, TemplateError, JsonError, ServerError, NotJudged, ReportError, LinkError)


def exit_status(enter: Callable[[], int], *, remedy: str = "") -> int:
    """Returns what `enter` returns, or the exit status of the error that it ended with.

    Args:
        enter: The entry's work.
        remedy: What to do when it failed or was stopped: the end of the sentence, with its separator.

    Returns:
        1 (FAILED): it had begun, and a later try may end well. 2 (REFUSED): the input cannot be used. 130 (STOPPED): by a
        signal.
    """
    try:
        return enter()
    except REFUSALS as error:
        say(f"error: {clean_lines(str(error))}")
        return REFUSED
    except (RunFailed, OSError) as error:  # a TimeoutError is one, and so is a disk that is full
        say(f"failed: {clean_lines(str(error))}{remedy}")
        return FAILED
    except KeyboardInterrupt:
        print(f"stopped{remedy}", file=sys.stderr)
        return STOPPED


def say(text: str) -> None:
    """Print an error, broken between words where the terminal ends; elsewhere a line stays whole."""
    columns = shutil.get_terminal_size().columns if sys.stderr.isatty() else 0
    print("\n".join(broken(line, columns) for line in text.split("\n")), file=sys.stderr)
