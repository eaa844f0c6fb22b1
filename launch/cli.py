"""What every entry shares: errors become one sentence and an exit status."""

import sys
from collections.abc import Callable

from buffer.streams import ServerError
from configs.load import ConfigError
from grm.preferences import DataError
from grm.prompts import TemplateError
from launch.judging.protocol import JudgeLost, NotJudged
from launch.monitoring.plain_text import clean_lines


def exit_status(enter: Callable[[], int], *, hint: str = "") -> int:
    """Call an entry's function and turn its errors into a sentence on stderr.

    Args:
        enter: Returns the exit status where all goes well.
        hint: What to do after a failure or a signal, added to the sentence.

    Returns:
        What `enter` returned; 1 after a failure, 2 for input that cannot be used, 130 after Ctrl-C or SIGTERM.
    """
    hint = hint and f"; {hint}"
    try:
        return enter()
    except (ConfigError, DataError, TemplateError, ServerError, NotJudged) as error:
        print(f"error: {clean_lines(str(error))}", file=sys.stderr)
        return 2
    except (TimeoutError, JudgeLost) as error:
        print(f"failed: {clean_lines(str(error))}{hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped{hint}", file=sys.stderr)
        return 130
