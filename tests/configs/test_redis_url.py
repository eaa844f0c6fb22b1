"""The address of a Redis server is read once: what could be read in two ways is refused, and nothing of it is quoted."""

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from configs.load import ConfigError, dump, load
from configs.redis_url import RedisUrl

SECRET = "hunter22"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (f"redis://:{SECRET}@h:1/0", "redis://:***@h:1/0"),
        (f"rediss://me:{SECRET}@h?ssl_cert_reqs=none", "rediss://me:***@h?ssl_cert_reqs=none"),
        (f"redis://me:a:{SECRET}@[::1]:6380", "redis://me:***@[::1]:6380"),
        (f"redis://me:{SECRET}%40%2F%23%3F%5B@h", "redis://me:***@h"),
        (f"unix://me:{SECRET}@/run/a%20b.sock?db=1", "unix://me:***@/run/a%20b.sock?db=1"),
        ("redis://me@h", "redis://me@h"),
        ("unix:///run/s", "unix:///run/s"),
    ],
)
def test_the_password_is_masked_and_redis_py_reads_the_same(text: str, masked: str) -> None:
    parts = RedisUrl.parse(text)
    assert parts.masked() == masked
    assert SECRET not in repr(parts) + parts.public()
    known = redis.connection.parse_url(text)
    assert (known.get("username", ""), known.get("password", "")) == (parts.user, parts.password)
    if parts.host:
        assert (known["host"], known.get("port", 6379)) == (parts.host, parts.port)
    assert RedisUrl.parse(parts.text(user=parts.user, password=parts.password)) == parts
    assert f"url: {masked}\n" in dump(load("tiny", [f"redis.url={text}"]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"redis://u:p@{SECRET}@h:6379/0", "@ as %40"),
        (f"redis://:sec/{SECRET}@h:1", "/ as %2F"),
        (f"redis://:sec?{SECRET}@h:1", "[?] as %3F"),
        (f"redis://:sec#{SECRET}@h:1", "# as %23"),
        (f"redis://:sec[{SECRET}@h:1", "[[] as %5B"),
        (f"redis://:sec]{SECRET}@h:1", "%5D"),
        (f"redis://:sec%{SECRET}@h:1", "% as %25"),
        (f"redis://h?password={SECRET}", "put it in SPCT_REDIS_PASSWORD"),
        (f"redis://h?p%61ssword={SECRET}", "put it in SPCT_REDIS_PASSWORD"),
        (f"redis://h?db=1&username=x&password={SECRET}", "put it in SPCT_REDIS_PASSWORD"),
        (f"unix://me:a/{SECRET}@/run/s", "/ as %2F"),
        (f"redis://:{SECRET}", "expected HOST"),
        (f"redis://me:{SECRET}@", "expected HOST"),
        (f"redis://me:{SECRET}@h:99999", "expected HOST"),
        (f"redis://me:{SECRET}@h:x", "expected HOST"),
        (f"redis://me:{SECRET}@h/name", "expected HOST"),
        (f"unix://me:{SECRET}@run/s", "absolute path of a socket"),
        (f"redis://me:{SECRET} @h", "a blank"),
        (f"redis:/me:{SECRET}@h", "expected redis://"),
        (f"http://me:{SECRET}@h", "expected redis://"),
    ],
)
def test_what_is_ambiguous_is_refused_and_never_quoted(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        RedisUrl.parse(text)
    assert SECRET not in str(refused.value)
    with pytest.raises(ConfigError, match=r"redis\.url: ") as refused:
        load("tiny", [f'redis.url="{text}"'])
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "value", [f'"redis://:{SECRET}@h', f"[redis://:{SECRET}@h]", "{a: " + SECRET + "}", f"redis://:[{SECRET}@h"]
)
def test_a_value_that_is_no_text_is_not_quoted_either(value: str) -> None:
    with pytest.raises(ConfigError, match=r"redis\.url") as refused:
        load("tiny", [f"redis.url={value}"])
    assert SECRET not in str(refused.value)


@given(st.text(), st.text())
def test_any_credentials_can_be_written(user: str, password: str) -> None:
    text = RedisUrl.parse("rediss://h:1/2?db=3").text(user=user, password=password)
    if password != "***":
        assert (RedisUrl.parse(text).user, RedisUrl.parse(text).password) == (user, password)
