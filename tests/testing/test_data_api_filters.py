"""Filters of the emulator against a second, slow and simple reading of the Data API's rules."""

from __future__ import annotations

from typing import Any

import pytest
from astrapy import DataAPIClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geovlm.testing.data_api import DataAPIEmulator
from tests.testing.data_api_raw import Raw, code


@pytest.fixture(scope="module")
def api():
    with DataAPIEmulator() as running:
        Raw(running).create()
        yield running


@pytest.fixture
def raw(api):
    cleared = Raw(api)
    cleared("deleteMany")
    return cleared


DAY = {"$date": 1_700_000_000_000}
NEXT_DAY = {"$date": 1_700_086_400_000}
FLIPPED = {"$gt": "$lte", "$lte": "$gt", "$lt": "$gte", "$gte": "$lt"}
ABSENT = object()


def kind(value: Any) -> str:
    if isinstance(value, dict):
        return "date" if "$date" in value else "object"
    if isinstance(value, bool):
        return "boolean"
    return {int: "number", float: "number", str: "text", list: "array"}.get(type(value), "null")


def same(one: Any, other: Any) -> bool:
    if kind(one) != kind(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[name], other[name]) for name in one)
    return one == other


def look_up(document: Any, path: str) -> Any:
    value = document
    for name in path.split("."):
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        else:
            return ABSENT
    return value


def equals(value: Any, wanted: Any) -> bool:
    if value is ABSENT:
        return False
    inside = isinstance(value, list) and kind(wanted) not in {"array", "object"}
    return same(value, wanted) or (inside and any(same(element, wanted) for element in value))


def compare(operator: str, value: Any, bound: Any) -> bool:
    if value is ABSENT or kind(value) != kind(bound):
        return False
    left, right = (v["$date"] if isinstance(v, dict) else v for v in (value, bound))
    return {"$gt": left > right, "$gte": left >= right, "$lt": left < right, "$lte": left <= right}[operator]


def condition(operator: str, value: Any, operand: Any) -> bool:
    if operator in FLIPPED:
        return compare(operator, value, operand)
    answers = {
        "$eq": lambda: equals(value, operand),
        "$ne": lambda: not equals(value, operand),
        "$in": lambda: any(equals(value, one) for one in operand),
        "$nin": lambda: not any(equals(value, one) for one in operand),
        "$exists": lambda: (value is not ABSENT) == operand,
        "$size": lambda: isinstance(value, list) and len(value) == operand,
        "$all": lambda: isinstance(value, list) and all(any(same(v, one) for v in value) for one in operand),
    }
    return answers[operator]()


def passes(document: Any, clause: Any, wanted: bool = True) -> bool:
    """Whether a document passes a clause, or its negation."""
    results = []
    for key, value in clause.items():
        if key == "$not":
            results.append(passes(document, value, not wanted))
        elif key in {"$and", "$or"}:
            parts = [passes(document, part, wanted) for part in value]
            results.append(all(parts) if (key == "$and") == wanted else any(parts))
        else:
            conditions = value if isinstance(value, dict) and "$date" not in value and value else {"$eq": value}
            conditions = conditions if all(name.startswith("$") for name in conditions) else {"$eq": value}
            for operator, operand in conditions.items():
                found = look_up(document, key)
                if not wanted and operator in FLIPPED:
                    results.append(compare(FLIPPED[operator], found, operand))
                else:
                    results.append(condition(operator, found, operand) == wanted)
    return all(results) if wanted else any(results)


ATOMS = st.sampled_from([None, True, False, 0, 1, 1.5, 2, "", "a", "b", DAY, NEXT_DAY])
VALUES = st.one_of(
    ATOMS,
    st.lists(ATOMS, max_size=3),
    st.dictionaries(st.sampled_from(["x", "y"]), ATOMS, max_size=2),
    st.lists(st.dictionaries(st.just("x"), ATOMS, max_size=1), max_size=2),
)
DOCUMENTS = st.lists(st.dictionaries(st.sampled_from(["p", "q", "r"]), VALUES, max_size=3), min_size=1, max_size=12)
PATHS = st.sampled_from(["p", "q", "r", "p.x", "q.y", "p.0", "q.1", "p.0.x", "s"])
ORDERED = ATOMS.filter(lambda value: value is not None)
CONDITIONS = st.one_of(
    st.tuples(st.sampled_from(["$eq", "$ne"]), VALUES),
    st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), ORDERED),
    st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(VALUES, max_size=3)),
    st.tuples(st.just("$exists"), st.booleans()),
    st.tuples(st.just("$size"), st.integers(0, 3)),
    st.tuples(st.just("$all"), st.lists(ATOMS, min_size=1, max_size=2)),
).map(lambda pair: {pair[0]: pair[1]})
LEAVES = st.dictionaries(PATHS, st.one_of(CONDITIONS, VALUES), min_size=1, max_size=2)
CLAUSES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"$and": parts}),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"$or": parts}),
        inner.map(lambda part: {"$not": part}),
    ),
    max_leaves=4,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(documents=DOCUMENTS, clauses=st.lists(CLAUSES, min_size=1, max_size=6))
def test_filters_find_what_the_rules_say(raw, documents, clauses):
    raw("deleteMany")
    numbered = [{"_id": n, **document} for n, document in enumerate(documents)]
    raw.insert(*numbered)
    for clause in clauses:
        assert raw.ids(clause) == [document["_id"] for document in numbered if passes(document, clause)], clause


@pytest.fixture
def zoo(raw):
    """Documents whose ids say what is special about them."""
    return raw.insert(
        {"_id": "number", "v": 5},
        {"_id": "text", "v": "5"},
        {"_id": "null", "v": None},
        {"_id": "missing"},
        {"_id": "true", "v": True},
        {"_id": "date", "v": DAY},
        {"_id": "array", "v": [5, "5", {"x": 1}]},
        {"_id": "nested", "v": [[5]]},
        {"_id": "object", "v": {"x": 1, "y": 2}},
        {"_id": "empty", "v": []},
    )


EVERY = ["number", "text", "null", "missing", "true", "date", "array", "nested", "object", "empty"]


def but(*names):
    return [name for name in EVERY if name not in names]


@pytest.mark.parametrize(
    ("clause", "expected"),
    [
        ({"v": 5}, ["number", "array"]),
        ({"v": 5.0}, ["number", "array"]),
        ({"v": {"$eq": "5"}}, ["text", "array"]),
        ({"v": None}, ["null"]),
        ({"v": True}, ["true"]),
        ({"v": DAY}, ["date"]),
        ({"v": [5]}, []),
        ({"v": [5, "5", {"x": 1}]}, ["array"]),
        ({"v": [[5]]}, ["nested"]),
        ({"v": {"x": 1, "y": 2}}, ["object"]),
        ({"v": {"y": 2, "x": 1}}, []),
        ({"v": {"x": 1}}, []),
        ({"v": []}, ["empty"]),
        ({"v.x": 1}, ["object"]),
        ({"v.0": 5}, ["array", "nested"]),
        ({"v.2.x": 1}, ["array"]),
        ({"v": {"$ne": 5}}, but("number", "array")),
        ({"v": {"$ne": None}}, but("null")),
        ({"v": {"$in": [5, None]}}, ["number", "null", "array"]),
        ({"v": {"$in": []}}, []),
        ({"v": {"$nin": []}}, EVERY),
        ({"v": {"$nin": [5, None]}}, but("number", "null", "array")),
        ({"v": {"$gt": 4}}, ["number"]),
        ({"v": {"$gte": "5"}}, ["text"]),
        ({"v": {"$lt": NEXT_DAY}}, ["date"]),
        ({"v": {"$lte": True}}, ["true"]),
        ({"$not": {"v": {"$gt": 4}}}, []),
        ({"$not": {"v": {"$lt": 5}}}, ["number"]),
        ({"v": {"$exists": True}}, but("missing")),
        ({"v": {"$exists": False}}, ["missing"]),
        ({"v": {"$size": 0}}, ["empty"]),
        ({"v": {"$size": 3}}, ["array"]),
        ({"v": {"$all": [5, "5"]}}, ["array"]),
        ({"v": {"$all": [{"x": 1}]}}, ["array"]),
        ({"$not": {"v": {"$size": 3}}}, but("array")),
        ({"$and": [{"v": 5}, {"_id": {"$ne": "array"}}]}, ["number"]),
        ({"$or": [{"v": 5}, {"v": None}]}, ["number", "null", "array"]),
        ({"$or": []}, EVERY),
        ({"$and": []}, EVERY),
        ({"v": {"$gt": 4, "$lt": 5}}, []),
        ({"_id": {"$in": ["null", "text", "none"]}}, ["null", "text"]),
        ({"_id": {"$nin": EVERY[1:]}}, ["number"]),
        ({"_id": {"$gt": "text"}}, ["true"]),
        ({"a..b": 1}, []),
    ],
)
def test_filters_on_values_of_all_types(zoo, clause, expected):
    found = zoo.ids(clause)
    assert (found if "_id" in clause else sorted(found, key=EVERY.index)) == expected
    assert zoo("countDocuments", filter=clause)["status"]["count"] == len(expected)


def test_names_with_dots_are_escaped(raw):
    raw.insert({"_id": 1, "price.usd": 5, "a&b": 6}, {"_id": 2, "price": {"usd": 5}})
    assert raw.ids({"price&.usd": 5}) == [1]
    assert raw.ids({"price.usd": 5}) == [2]
    assert raw.ids({"a&&b": 6}) == [1]
    assert code(raw("find", filter={"a&b": 6})) == "FILTER_INVALID_EXPRESSION"


def test_ids_and_uuids_are_filtered_by_their_text(raw):
    identity, other = "0190e5b6-7a4c-7c3f-8a52-0d3f6b1f2a11", "66a1f0c2e4b0a1b2c3d4e5f6"
    raw.insert({"_id": {"$uuid": identity}, "o": {"$objectId": other}})
    assert raw.ids({"_id": {"$uuid": identity.upper()}}) == [{"$uuid": identity}]
    assert raw.ids({"o": {"$objectId": other}}) == [{"$uuid": identity}]
    assert raw.ids({"o": {"$in": [{"$objectId": other}]}}) == [{"$uuid": identity}]


@pytest.mark.parametrize(
    ("clause", "expected"),
    [
        ([], "FILTER_UNSUPPORTED_DATA_TYPE"),
        ("a", "FILTER_UNSUPPORTED_DATA_TYPE"),
        ({"$and": [3]}, "FILTER_UNSUPPORTED_DATA_TYPE"),
        ({"$and": {"a": 1}}, "FILTER_INVALID_EXPRESSION"),
        ({"$not": [{"a": 1}]}, "FILTER_INVALID_EXPRESSION"),
        ({"$nor": [{"a": 1}]}, "FILTER_INVALID_EXPRESSION"),
        ({"$where": 1}, "FILTER_INVALID_EXPRESSION"),
        ({"": 1}, "FILTER_INVALID_EXPRESSION"),
        ({"a": {"$regex": "x"}}, "FILTER_UNSUPPORTED_OPERATOR"),
        ({"a": {"$not": {"$gt": 1}}}, "FILTER_UNSUPPORTED_OPERATOR"),
        ({"a": {"$gt": 1, "b": 2}}, "FILTER_UNSUPPORTED_OPERATOR"),
        ({"a": {"$in": 1}}, "FILTER_INVALID_EXPRESSION"),
        ({"a": {"$all": []}}, "FILTER_INVALID_EXPRESSION"),
        ({"a": {"$all": 1}}, "FILTER_INVALID_EXPRESSION"),
        ({"a": {"$size": -1}}, "FILTER_INVALID_EXPRESSION"),
        ({"a": {"$size": 1.5}}, "FILTER_INVALID_EXPRESSION"),
        ({"a": {"$exists": 1}}, "FILTER_INVALID_EXPRESSION"),
        ({"a": {"$gt": None}}, "FILTER_INVALID_EXPRESSION"),
        ({"a": {"$lt": [1]}}, "FILTER_INVALID_EXPRESSION"),
        ({"a": {"$date": "today"}}, "FILTER_INVALID_EXPRESSION"),
        ({"a": {"$gt": {"$date": "today"}}}, "FILTER_INVALID_EXPRESSION"),
        ({"$vector": [1.0]}, "FILTER_INVALID_EXPRESSION"),
        ({"$vector": {"$gt": 1}}, "FILTER_INVALID_EXPRESSION"),
        ({"$or": [{"_id": 1}, {"_id": 2}]}, "FILTER_INVALID_EXPRESSION"),
        ({"$and": [{"_id": 1}, {"_id": 2}]}, "FILTER_MULTIPLE_ID_FILTER"),
        ({"_id": {}}, "SHRED_BAD_DOCID_TYPE"),
        ({"$lexical": {"$match": "x"}}, "LEXICAL_NOT_AVAILABLE_FOR_DATABASE"),
        ({"a": {"$match": "x"}}, "FILTER_INVALID_EXPRESSION"),
    ],
)
def test_bad_filters(raw, clause, expected):
    for command in ("find", "findOne", "countDocuments", "deleteMany", "deleteOne", "findOneAndDelete"):
        assert code(raw(command, filter=clause)) == expected
    assert code(raw("updateMany", filter=clause, update={"$set": {"x": 1}})) == expected


def test_sixty_four_fields_pass_and_sixty_five_do_not(raw):
    raw.insert({"_id": 1})
    conditions = [{f"f{n}": {"$exists": False}} for n in range(65)]
    assert raw.ids({"$and": conditions[:64]}) == [1]
    assert code(raw("find", filter={"$and": conditions})) == "FILTER_FIELDS_LIMIT_VIOLATION"


@pytest.mark.parametrize("operator", ["$in", "$nin"])
def test_a_hundred_values_pass_and_one_more_does_not(raw, operator):
    raw.insert(*({"_id": n} for n in range(60)))
    assert raw("countDocuments", filter={"_id": {operator: list(range(100))}})["status"]["count"] in {0, 60}
    assert code(raw("find", filter={"_id": {operator: list(range(101))}})) == "FILTER_INVALID_EXPRESSION"


def test_many_ids_come_in_one_page_in_their_order(raw):
    raw.insert(*({"_id": n} for n in range(99)))
    wanted = list(range(99, -1, -1))
    assert raw.ids({"_id": {"$in": wanted}}) == wanted[1:]


class TestIndexing:
    @pytest.fixture
    def own(self):
        with DataAPIEmulator() as running:
            yield running

    def create(self, own, indexing):
        made = Raw(own).create(indexing=indexing, vector={"dimension": 2})
        return made.insert({"_id": 1, "a": {"b": 1, "c": 2}, "d": 3, "$vector": [1, 2]})

    @pytest.mark.parametrize(
        ("indexing", "indexed", "unindexed"),
        [
            ({"allow": ["a.b"]}, ["a.b", "$vector"], ["a", "a.c", "d"]),
            ({"allow": ["a"]}, ["a", "a.b", "a.c"], ["d", "ab"]),
            ({"allow": ["*"]}, ["a", "a.b", "d", "_id"], []),
            ({"deny": ["a.b"]}, ["a", "a.c", "d", "_id", "$vector"], ["a.b"]),
            ({"deny": ["a"]}, ["d", "ab"], ["a", "a.b"]),
            ({"deny": ["*"]}, [], ["a", "d", "$vector"]),
        ],
    )
    def test_only_indexed_paths_are_filtered(self, own, indexing, indexed, unindexed):
        made = self.create(own, indexing)
        for path in indexed:
            assert "errors" not in made("find", filter={path: {"$exists": True}}), path
        for path in unindexed:
            assert code(made("find", filter={path: {"$exists": True}})) == "FILTER_PATH_UNINDEXED", path
            if path != "$vector":
                assert code(made("find", sort={path: 1})) == "SORT_CLAUSE_PATH_UNINDEXED", path
        assert made.ids({"_id": 1}) == made.ids({"_id": {"$in": [1, 2]}}) == [1]
        assert made.ids(sort={"$vector": [1, 2]}) == [1]

    def test_ids_without_an_index_are_found_by_themselves_only(self, own):
        made = self.create(own, {"deny": ["*"]})
        for condition_ in ({"$ne": 1}, {"$gt": 0}, {"$nin": [2]}, {"$exists": True}):
            assert code(made("find", filter={"_id": condition_})) == "FILTER_ID_NOT_INDEXED"

    def test_what_is_not_indexed_is_not_seen(self, own):
        made = self.create(own, {"deny": ["a.b"]})
        assert made.ids({"a": {"c": 2}}) == [1]
        assert code(made("find", filter={"a": {"b": 1, "c": 2}})) == "FILTER_PATH_UNINDEXED"


def test_filters_through_astrapy(api, raw):
    things = DataAPIClient().get_database(api.endpoint, token=api.token).get_collection("things")
    things.insert_many([{"_id": n, "n": n, "tags": ["even"] if n % 2 == 0 else []} for n in range(20)])
    found = things.find({"$or": [{"n": {"$lt": 3}}, {"tags": {"$size": 1}, "n": {"$gte": 16}}]})
    assert sorted(document["_id"] for document in found) == [0, 1, 2, 16, 18]
    assert things.count_documents({"tags": "even"}, upper_bound=100) == 10
