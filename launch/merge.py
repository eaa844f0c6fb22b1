"""Makes a whole model of a policy that was trained as LoRA adapters (learner.lora_rank): W + (alpha / r) B A.

    python launch/merge.py runs/mine/checkpoints/policy/version-000080 OUT
    python launch/merge.py CHECKPOINT OUT --base DIR      where the model that it was trained from lies elsewhere now

OUT is a new folder, which transformers, vLLM and launch/evaluate.py load. CHECKPOINT may be any folder of LoRA adapters in
peft's format.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that `python launch/merge.py` finds its siblings

from configs.load import ConfigError
from configs.paths import NoHomeFolder, output_path
from launch.cli import exit_status
from launch.monitoring.help_text import HelpFormatter
from launch.setup.model_card import BESIDE
from launch.setup.model_files import resolve
from launch.setup.model_integrity import check_model_folder


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 written, 1 it could not be written, 2 the input cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a policy's checkpoint, checkpoints/policy/version-*")
    parser.add_argument("out", metavar="OUT", help="a folder that does not exist yet")
    parser.add_argument("--base", default="", help="the model that the adapters belong to (default: the one that they name)")
    arguments = parser.parse_args(argv)
    return exit_status(lambda: merge(arguments.checkpoint, arguments.out, arguments.base))


def merge(checkpoint: str, target: str, base: str = "") -> int:
    """Write the whole model, or nothing. Returns the exit status."""
    try:
        out = output_path(target)
    except NoHomeFolder as error:
        raise ConfigError(f"OUT {error}") from None
    if out.exists():
        raise ConfigError(f"{out} is there already: name a folder that is not")
    folder = adapters_in(Path(checkpoint))
    from learner import adapters  # imports torch: not before what was given is known to be there

    try:
        source = resolve(base or adapters.base_of(folder))
        check_model_folder(source, trained=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=out.parent) as draft:
            adapters.merge(folder, Path(draft) / "model", source)
            for name in BESIDE:  # how it is asked, and its card
                if (folder / name).is_file():
                    shutil.copyfile(folder / name, Path(draft) / "model" / name)
            (Path(draft) / "model").rename(out)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    print(f"{out}: {source} with the adapters of {folder}")
    return 0


def adapters_in(checkpoint: Path) -> Path:
    """Returns the folder of adapters of a checkpoint, or of that name. ConfigError when there is none."""
    for folder in (checkpoint / "adapter", checkpoint):
        if (folder / "adapter_config.json").is_file():
            return folder
    if (checkpoint / "model").is_dir():
        raise ConfigError(f"{checkpoint} holds a whole model already: {checkpoint / 'model'}")
    raise ConfigError(f"{checkpoint} holds no adapters: give checkpoints/policy/version-* of a run with learner.lora_rank")


if __name__ == "__main__":
    sys.exit(main())
