"""How a refusal is told to people: what failed, and not what only followed from it."""

from strongroom.errors import AppraisalRefused


def refused(*reasons: str) -> AppraisalRefused:
    return AppraisalRefused("no", failed=tuple(f"c{place}" for place in range(len(reasons))), reasons=reasons)


def test_what_was_not_made_is_counted_where_something_failed():
    assert refused("was not made; needs c1", "another root", "was not made; needs c0").shown() == [
        "c1: another root",
        "2 more did not pass or could not be made",
    ]


def test_what_was_not_made_is_named_where_nothing_failed():
    assert refused("was not made; no list was given").shown() == ["c0: was not made; no list was given"]


def test_a_long_list_ends_with_how_many_are_left():
    shown = refused(*["differs"] * 30).shown()
    assert shown[:-1] == [f"c{place}: differs" for place in range(AppraisalRefused.MOST_SHOWN)]
    assert shown[-1] == "22 more did not pass or could not be made"
    assert "22 more" in refused(*["differs"] * 30).explain()


def test_nothing_is_said_of_no_checks():
    assert refused().shown() == []
