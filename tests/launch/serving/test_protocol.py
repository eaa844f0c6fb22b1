"""What interfaces rely on: errors cross processes whole, and a query is a text whatever form it came in."""

import pickle

import pytest

from launch.serving.errors import BadRequest, ServingError, SlotTaken, Unjudged
from launch.serving.protocol import query_text


@pytest.mark.parametrize(
    "error", [BadRequest("no", field="k"), SlotTaken("no"), Unjudged("no", final=True), Unjudged("no", final=False)]
)
def test_an_error_crosses_processes_whole(error: ServingError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.status, vars(copy)) == (type(error), "no", error.status, vars(error))


def test_a_query_is_a_text_or_messages() -> None:
    assert query_text("q") == "q"
    assert query_text([{"role": "user", "content": "q"}]) == "q"
    assert query_text([{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]) == "User: q\n\nAssistant: r"


@pytest.mark.parametrize("query", [[], None, 3, [{"role": "user"}], [{"role": "user", "content": 3}], ["q"], {"role": "user"}])
def test_a_query_that_is_neither_is_refused_with_its_field(query: object) -> None:
    with pytest.raises(BadRequest, match=r"^prompt: ") as refused:
        query_text(query, field="prompt")
    assert refused.value.field == "prompt"
