"""Which revision of a hub model this machine uses."""

from pathlib import Path

SMALL_FILES = ("config.json", "tokenizer_config.json")  # one of them is fetched with every model


def cached_revision(model: str) -> str:
    """Returns the commit that a model's name stands for in the cache of hub files; "" when nothing of it is there yet."""
    from huggingface_hub import try_to_load_from_cache

    for name in SMALL_FILES:
        file = try_to_load_from_cache(model, name)
        if isinstance(file, str):
            return Path(file).parent.name
    return ""
