"""One part of the check, in a process of its own: python -m tests.gpu.part NAME DEVICE FOLDER RECORDS.

Each figure is a line of RECORDS as soon as it is found, so that a process that dies leaves what it had.
"""

import json
import sys
from pathlib import Path
from typing import cast

from tests.gpu.parts import Device, figures_of


def main() -> None:
    name, device, folder, records = sys.argv[1:]
    with Path(records).open("a") as file:
        for found in figures_of(name, cast(Device, device), Path(folder)):
            file.write(json.dumps(found.record(), allow_nan=False) + "\n")
            file.flush()


if __name__ == "__main__":
    main()
