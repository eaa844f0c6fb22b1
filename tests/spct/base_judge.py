"""The folder `judge` as a run leaves it, with the base policy of the small world in place of a trained one."""

import shutil
from pathlib import Path

from configs.load import load
from grm.sources import load as load_preferences
from launch.setup.judge_settings import settings_of
from launch.setup.model_card import files_beside
from launch.setup.model_files import TINY
from launch.setup.tokenizer import Tokenizer


def base_judge(folder: Path) -> Path:
    """Makes the folder, with judge.json, its template and the model card."""
    shutil.copytree(TINY, folder)
    config = load("tiny")
    settings = settings_of(config, load_preferences("tiny:1:8").preferences, Tokenizer(str(TINY)))
    for name, text in files_beside(config, settings, base=str(TINY), run="mine", preferences=8, figures=()).items():
        (folder / name).write_text(text)
    return folder
