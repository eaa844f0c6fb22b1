"""Uploads a trained judge to the Hugging Face hub, as a model repository that anybody can open by its name.

    spct push runs/mine OWNER/NAME              private, unless --public is given
    spct push runs/mine OWNER/NAME --dry-run    what would be uploaded, and the card

The folder `judge` of a run, or any model folder that holds judge.json: weights, tokenizer, model card, and how it is asked. The
token is HF_TOKEN, or that of `hf auth login`. Started again, it uploads what differs.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from configs.load import ConfigError
from launch.cli import exit_status
from launch.monitoring.help_text import HelpFormatter
from launch.monitoring.plain_text import clean, clean_lines
from launch.setup.judge_settings import FILE
from launch.setup.judge_source import JUDGE, SERVERS, find_judge
from launch.setup.model_card import CARD

KEPT = (".safetensors", ".json", ".txt", ".md", ".jinja", ".model")
"""Ends of the names of files that belong to a judge: what transformers writes, judge.json, its templates and the card."""


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 uploaded, 1 the hub failed, 2 the input cannot be used, 130 stopped by a signal."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    options.add_argument("judge", help="a run, a checkpoint, or a model folder that holds judge.json")
    options.add_argument("repository", metavar="OWNER/NAME", help="of the hub; made if it is not there")
    options.add_argument("--public", action="store_true", help="for everybody to see; else private. Of a new repository only")
    options.add_argument("--message", default="Upload a judge trained by SPCT", help="of the commit")
    options.add_argument("--dry-run", action="store_true", help="list the files and print the card, upload nothing")
    arguments = options.parse_args(argv)
    return exit_status(lambda: push(arguments), remedy="; start it again to go on")


def push(arguments: argparse.Namespace) -> int:
    """Check, list and upload. Returns the exit status."""
    folder = folder_of(arguments.judge)
    files = files_of(folder)
    _require_name(arguments.repository)
    sizes = {file.name: file.stat().st_size for file in files}
    print(f"judge      {clean(str(folder))}")
    print(f"files      {len(sizes)}, {sum(sizes.values()) / 1e6:,.1f} MB: {', '.join(map(clean, sizes))}")
    if arguments.dry_run:
        print(clean_lines((folder / CARD).read_text(encoding="utf-8")))
        return 0
    print(f"uploaded   {_upload(folder, list(sizes), arguments)}")
    print(f'in Python  import spct; spct.Judge("{arguments.repository}")')
    return 0


def folder_of(judge: str) -> Path:
    """Returns the folder of a trained judge on this disk. ConfigError when there is none that can be published."""
    if judge.startswith(SERVERS):
        raise ConfigError(f"{judge}: a server has no files to upload; name a run, a checkpoint or a model folder")
    found = find_judge(judge)
    own = found.run / JUDGE if found.run is not None else None  # with the card of the whole run
    folder = own if own is not None and own.is_dir() else Path(found.model)
    if not folder.is_dir():
        raise ConfigError(f"{judge}: is no folder on this disk; name a run, a checkpoint or a model folder")
    for name in (FILE, CARD):
        if not (folder / name).is_file():
            raise ConfigError(f"{folder}: it has no {name}, which every model that is trained here has; name one of those")
    return folder


def files_of(folder: Path) -> list[Path]:
    """Returns the files of a judge, by name: those that transformers and SPCT write, and no others that may lie there."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name.endswith(KEPT))
    if not any(path.suffix == ".safetensors" for path in files):
        raise ConfigError(f"{folder}: it has no weights (*.safetensors); name a whole model (spct merge makes one of adapters)")
    return files


def _require_name(repository: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise ConfigError(f"{repository}: {str(error).splitlines()[0]}") from None
    if repository.count("/") != 1:
        raise ConfigError(f"{repository}: write OWNER/NAME, as me/my-judge")


def _upload(folder: Path, names: list[str], arguments: argparse.Namespace) -> str:
    """Make the repository if it is not there, and upload. Returns the address of the commit.

    Raises:
        ConfigError: There is no token, or the hub refuses it.
        OSError: The hub cannot be reached, or fails.
    """
    import httpx2
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(library_name="spct")
    if not get_token():
        raise ConfigError("there is no token for the hub: set HF_TOKEN, or run `hf auth login`")
    try:
        api.create_repo(arguments.repository, private=not arguments.public, exist_ok=True)
        info = api.upload_folder(
            repo_id=arguments.repository, folder_path=folder, allow_patterns=names, commit_message=arguments.message
        )
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        text = f"the hub refuses {arguments.repository}: {error.server_message or str(error).strip().splitlines()[0]}"
        if status in (401, 403):
            raise ConfigError(f"{text}; the token (HF_TOKEN) needs the right to write there") from None
        raise OSError(text) from error
    except httpx2.TransportError as error:
        raise OSError(f"the hub at {api.endpoint} gave no answer ({error})") from error
    except (RuntimeError, ValueError) as error:  # of an upload that failed half way
        raise OSError(f"the upload failed: {str(error).splitlines()[0]} ({error.__cause__ or 'no more is known'})") from error
    return str(info.commit_url)


if __name__ == "__main__":
    sys.exit(main())
