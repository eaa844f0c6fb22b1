from collections.abc import Callable

import pytest

from configs.load import load, presets
from launch.monitoring.metrics import METRICS
from launch.monitoring.plain_text import clean, clean_lines
from launch.monitoring.redaction import redacted

# Names as tools and clouds have them; each must be known as one of a secret.
NAMES = [
    "OPENAI_API_KEY",
    "WANDB_API_KEY",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "GITHUB_TOKEN",
    "GITHUB_PAT",
    "SPCT_REDIS_PASSWORD",
    "RAY_AUTH_TOKEN",
    "PGPASSWORD",
    "DB_PASS",
    "SSH_PASSPHRASE",
    "AZURE_CLIENT_SECRET",
    "GCP_CREDENTIAL",
    "SOME_CREDENTIALS",
    "OPENAI_APIKEY",
    "openai.api_key",
    "TOKEN",
]


def test_redaction_keeps_what_is_not_secret() -> None:
    config = {"rollout": {"max_new_tokens": 96, "top_k": None}, "url": "unix:///tmp/a@b", "list": ["redis://:x@h", 2.5, True]}
    kept = redacted(config | {"wandb_api_key": "abc", "password": ""}, {"HOME": "/root", "WANDB_API_KEY": "abcdef"})
    assert kept == {
        "rollout": {"max_new_tokens": 96, "top_k": None},
        "url": "unix:///tmp/a@b",
        "list": ["redis://***@h", 2.5, True],
        "wandb_api_key": "***",
        "password": "",
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_value_of_every_name_of_a_secret_is_masked(name: str) -> None:
    assert redacted("at sesame: open", {name: "sesame"}) == "at ***: open"
    assert redacted({name: "x"}, {}) == {name: "***"}


@pytest.mark.parametrize("name", ["HOME", "TOKENIZERS_PARALLELISM", "MAX_TOKENS", "MONKEY_BARS", "KEYBOARD", "PATH", "COMPASS"])
def test_the_value_of_another_name_is_kept(name: str) -> None:
    assert redacted("at sesame: open", {name: "sesame"}) == "at sesame: open"


@pytest.mark.parametrize("key", ["how-to-pass", "owner/my-token", "what is the key", "hf:owner/secret"])
def test_a_key_of_data_is_no_name_of_a_secret(key: str) -> None:
    assert redacted({key: "the judge answered nothing"}, {}) == {key: "the judge answered nothing"}


def test_no_leaf_of_a_config_and_no_metric_is_taken_for_a_secret() -> None:
    for preset in presets():
        tree = load(preset).model_dump()
        assert redacted(tree, {}) == tree
    assert redacted(dict.fromkeys(METRICS, 1.0), {}) == dict.fromkeys(METRICS, 1.0)


@pytest.mark.parametrize(
    ("text", "environ", "masked"),
    [
        ("short: 12345", {"A_KEY": "12345"}, "short: 12345"),
        ("sesame-street and sesame", {"A_KEY": "sesame", "B_KEY": "sesame-street"}, "*** and ***"),
        ("a key with blanks", {"A_KEY": "key\twith  blanks\n"}, "a ***"),
        ("q=s%2Fsame%21", {"A_KEY": "s/same!"}, "q=***"),
        ("AUTH open:sesame", {"REDIS_URL": "redis://me:open:sesame@h:1/0"}, "AUTH ***"),
        ("AUTH s@s/m", {"HTTPS_PROXY": "http://me:s@s/m@proxy:3128"}, "AUTH s@s/m"),  # five characters
        ("AUTH s@sa/me", {"HTTPS_PROXY": "http://me:s@sa/me@proxy:3128"}, "AUTH ***"),
    ],
)
def test_secrets_are_masked_in_each_form(text: str, environ: dict[str, str], masked: str) -> None:
    assert redacted(text, environ) == masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("redis://u:p@ssw0rd@h:6379/0", "redis://***@h:6379/0"),
        ("redis://:sec/ret@h:1", "redis://***@h:1"),
        ("redis://u:a#b?c/d@h", "redis://***@h"),
        ("redis://u:a://b@h", "redis://***@h"),
        ("'http://u:p@h/v1', then 'http://v:q@i'", "'http://***@h/v1', then 'http://***@i'"),
        ("http://a/x,redis://u:p@h", "http://a/x,redis://***@h"),
        ("see http://h:8000/x@y and http://[::1]:80/x@y", "see http://h:8000/x@y and http://[::1]:80/x@y"),
        ("hf://name/x@revision", "hf://name/x@revision"),
        ("a@b ://", "a@b ://"),
        ("://@", "://***@"),
    ],
)
def test_user_and_password_of_a_url_are_masked_whole(text: str, masked: str) -> None:
    assert redacted(text, {}) == masked


def test_a_text_made_to_take_long_takes_no_time() -> None:
    for text in ("://" * 300_000 + "@", ":" * 900_000 + "@", "a" * 900_000 + "://@", "://:" * 200_000 + "@"):
        redacted(text, {"A_KEY": "sesame"})  # quadratic, each would take minutes


@pytest.mark.parametrize("output", [clean, clean_lines])
def test_what_is_printed_holds_no_secret_of_the_environment(
    output: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_sesame")
    assert output("GET with hf_ses\x1b[0mame failed: hf_sesame") in (
        "GET with hf_ses�[0mame failed: ***",
        "GET with *** failed: ***",
    )
