"""The mixture of all sources: a fair sample under any limit, and the same whatever else there is."""

from collections.abc import Iterator

from grm.mixing import MixedRow, MixedRows, mix, mixed, mixing_place
from grm.preferences import Loaded, Preference, Question, Skipped


def preference(name: str) -> Preference:
    return Preference(question=Question(id=name, query="q", responses=("x", "y")), label=0)


def source(name: str, count: int) -> MixedRows:
    return mixed(Loaded(preferences=tuple(preference(f"{name}:{i:04}") for i in range(count)), skipped={"tie": 1}))


def ids(loaded: Loaded) -> list[str]:
    return [each.question.id for each in loaded.preferences]


def test_a_place_is_that_of_the_id_alone_and_stays_what_it_was() -> None:
    assert sorted(["a:1", "a:2", "b:1", "b:2"], key=mixing_place) == ["a:1", "b:1", "a:2", "b:2"]
    assert 0 <= mixing_place("\ud800") < 2**64, "a file name that is not UTF-8"


def test_a_limit_takes_from_each_source_in_proportion_to_its_size() -> None:
    first, second = mix([source("a", 900), source("b", 300)], limit=200)
    assert len(first.preferences) + len(second.preferences) == 200
    assert 130 <= len(first.preferences) <= 170, "150 expected, standard deviation 5.6"


def test_a_limit_takes_the_first_of_the_whole_order() -> None:
    whole = mix([source("a", 50), source("b", 50)])
    order = sorted([*ids(whole[0]), *ids(whole[1])], key=mixing_place)
    for limit in (1, 10, 99, 100, 101):
        taken = mix([source("a", 50), source("b", 50)], limit=limit)
        assert sorted([*ids(taken[0]), *ids(taken[1])], key=mixing_place) == order[:limit]


def test_a_row_more_moves_no_other() -> None:
    few, many = mix([source("a", 40)], limit=20)[0], mix([source("a", 41)], limit=20)[0]
    assert [name for name in ids(many) if name != "a:0040"] == ids(few)[: 20 - ("a:0040" in ids(many))]
    alone, beside = mix([source("a", 40)])[0], mix([source("a", 40), source("b", 40)])[0]
    assert ids(beside) == ids(alone)


def test_sorted_ids_are_not_used_in_their_order() -> None:
    order = ids(mix([source("a", 200)])[0])
    assert 30 <= sum(name < "a:0100" for name in order[:100]) <= 70


def test_no_more_is_decoded_than_the_limit_needs() -> None:
    decoded: list[str] = []

    def lazily(name: str) -> Iterator[MixedRow]:
        for each in source(name, 1000).rows:
            assert isinstance(each.item, Preference)
            decoded.append(each.item.question.id)
            yield each

    taken = mix([MixedRows(rows=lazily("a")), MixedRows(rows=lazily("b"))], limit=10)
    assert sum(len(each.preferences) for each in taken) == 10
    assert len(decoded) <= 10 + 2, "one row more of each source at most"
    assert {name[0] for name in decoded} == {"a", "b"}


def test_skipped_rows_do_not_count_towards_the_limit_and_are_counted_as_far_as_it_reaches() -> None:
    rows = [
        MixedRow(place=1, item=Skipped(reason="tie")),
        MixedRow(place=2, item=preference("a")),
        MixedRow(place=3, item=Skipped(reason="tie")),
        MixedRow(place=4, item=preference("b")),
    ]
    assert mix([MixedRows(rows=rows)]) == [Loaded(preferences=(preference("a"), preference("b")), skipped={"tie": 2})]
    assert mix([MixedRows(rows=rows)], limit=1) == [Loaded(preferences=(preference("a"),), skipped={"tie": 1})]
    assert mix([MixedRows(rows=rows, skipped={"empty": 3})], limit=1)[0].skipped == {"tie": 1, "empty": 3}
    assert mix([source("a", 3)], limit=1)[0].skipped == {"tie": 1}, "a file is read as a whole"
