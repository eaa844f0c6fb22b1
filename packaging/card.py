"""Is there a card that a GPU installation can use? `make demo DEVICE=cuda` asks before gigabytes are fetched.

What is missing is said in one sentence with its remedy, exit status 2. A bare Python is enough, and the NVIDIA driver's own
nvidia-smi. The syntax stays that of Python 3.7, so that an older Python gets to read its sentence.
"""

from __future__ import annotations

import re
import subprocess
import sys

from install import Refused

ASKED = ["nvidia-smi", "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader"]
ASK_S = 60  # a driver that is not kept loaded takes seconds to answer
# The locked torch is built for CUDA 13: https://docs.nvidia.com/cuda/cuda-toolkit-release-notes/ has the driver of a major
# version, and says that version 13 no longer compiles for cards before Turing.
CUDA, DRIVER, CAPABILITY = 13, 580, 7.5
ELSEWHERE = "or try the small world on CPU by make demo DEVICE=cpu"


def ask() -> str:
    """Each card's name, driver and compute capability, a line each.

    Raises:
        Refused: there is no driver, or it does not answer.
    """
    try:
        asked = subprocess.run(ASKED, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=ASK_S)
    except FileNotFoundError:
        raise Refused(
            f"card: this machine has no NVIDIA driver (nvidia-smi is not there): install driver {DRIVER} or newer, start the"
            f" container with --gpus all, {ELSEWHERE}"
        ) from None
    except subprocess.TimeoutExpired:
        raise Refused(
            f"card: nvidia-smi did not answer within {ASK_S} s: restart the driver or the machine, {ELSEWHERE}"
        ) from None
    if asked.returncode:
        said = " ".join(asked.stdout.split())
        raise Refused(f"card: nvidia-smi failed with status {asked.returncode}, {said!r}: mend the driver, {ELSEWHERE}")
    return asked.stdout


def check(cards: str) -> None:
    """Refuses a driver or cards that are too old for the locked torch.

    Args:
        cards: as `ask` returns them, such as `NVIDIA H100 80GB HBM3, 580.65.06, 9.0`.
    """
    lines = [[part.strip() for part in line.rsplit(",", 2)] for line in cards.splitlines() if line.strip()]
    if not lines:
        raise Refused(f"card: the NVIDIA driver sees no card: give the machine or container one, {ELSEWHERE}")
    for name, driver, capability in lines:
        if int(re.findall(r"\d+", driver)[0]) < DRIVER:
            raise Refused(f"card: driver {driver} of {name} is too old for CUDA {CUDA}: install {DRIVER} or newer, {ELSEWHERE}")
        if float(capability) < CAPABILITY:
            raise Refused(
                f"card: {name} has compute capability {capability}, and CUDA {CUDA} needs {CAPABILITY}"
                f" (Turing) or newer: use another card, {ELSEWHERE}"
            )


def main() -> int:
    try:
        check(ask())
    except Refused as refused:
        print(refused, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
