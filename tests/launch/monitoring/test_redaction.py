from launch.monitoring.redaction import redacted


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
