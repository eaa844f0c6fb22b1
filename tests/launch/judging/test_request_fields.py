"""Which field of a request a server's refusal names."""

import pytest

from launch.judging.endpoint_errors import Said, said
from launch.judging.request_fields import refused_field

SENT = {"model": "m", "messages": [], "n": 2, "seed": 1, "temperature": 0.5, "max_tokens": 9, "chat_template_kwargs": {}}


@pytest.mark.parametrize(
    ("text", "param", "field"),
    [
        (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
            "",
            "max_tokens",
        ),
        ("Unsupported value: 'temperature' does not support 0.5 with this model.", "temperature", "temperature"),
        ('Invalid JSON payload received. Unknown name "seed": Cannot find field.', "", "seed"),
        ("Unrecognized request argument supplied: chat_template_kwargs", "", "chat_template_kwargs"),
        ("`n` must be 1", "", "n"),
        ("temperature is deprecated for this model", "", "temperature"),
        ("'max_tokens' is too large: 9. This model's maximum context length is 8 tokens", "max_tokens", None),
        ("max_tokens must be at most 4096", "", None),
        ("max_tokens must be at most 4096", "max_tokens", None),
        ("'max_tokens' must be a positive integer", "", None),
        ("Invalid 'max_tokens': give a value between 1 and 8", "", None),
        ("temperature must be greater than 0", "temperature", "temperature"),
        ("Your prompt was flagged: it names a seed bank, which our policy does not support", "", None),
        ("moderation: 'seed' money for what we do not support", "", None),
        ("messages: text is invalid", "messages", None),
        ("The model `m` is not supported", "model", None),
        ("something is not supported", "", None),
        ("the seed of doubt", "", None),
    ],
)
def test_a_refusal_names_a_field_or_is_about_something_else(text: str, param: str, field: str | None) -> None:
    assert refused_field(Said(text=text, param=param), SENT) == field


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"error": {"message": "no", "param": "seed", "code": 42}}', Said(text="no", param="seed", code="42")),
        (b'{"error": "no"}', Said(text="no")),
        (b'{"message": "no", "code": "bad"}', Said(text="no", code="bad")),
        (b'{"detail": "no"}', Said(text="no")),
        (b'{"detail": [{"loc": ["body", "seed"], "msg": "extra"}]}', Said(text="seed: extra", param="seed")),
        (b'[{"error": {"message": "no", "code": 400}}]', Said(text="no", code="400")),
        (b'{"error": {"code": true}}', Said(text='{"error": {"code": true}}')),
        (b"<html>", Said(text="<html>")),
        (b"\xff", Said(text="\ufffd")),
        (b"[" * 5000, Said(text="[" * 5000)),
        (b"", Said(text="")),
    ],
)
def test_what_an_errors_body_says(body: bytes, expected: Said) -> None:
    assert said(body) == expected
