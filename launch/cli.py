"""What every entry shares: errors become one sentence and an exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable

from buffer.streams import ServerError
from configs.load import ConfigError
from grm.preferences import DataError
from grm.prompts import TemplateError
from launch.monitoring.plain_text import clean_lines


def exit_status(enter: Callable[[], int]) -> int:
    """What `enter` returns; input that cannot be used and signals become a sentence and an exit status."""
    try:
        return enter()
    except (ConfigError, DataError, TemplateError, ServerError) as error:
        print(f"error: {clean_lines(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
