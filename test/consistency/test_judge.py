"""The judge finds each kind of anomaly in a history that was made up to hold just that one."""

import pytest

from .judge import Judge, Verdict

KEY = "0-1"


def change(seq, op, gone=False, key=KEY, one="1", implied=False, **values):
    return {"seq": seq, "t": float(seq), "op": op, "c": key, "id": one, "gone": gone, "set": values, "implied": implied}


def wrote(op, t1, commit="committed", status=200, error=None, **more):
    return {"k": "w", "op": op, "by": "0.0.hubspot.0", "m": "PATCH", "path": "/", "via": "proxy", "t0": t1 - 0.5, "t1": t1,
            "status": status, "commit": commit, "error": error, "crc": 7, **more}


def came(op, **more):
    return {"op": op, "t": 0.0, "n": 1, "status": 200, "applied": True, "crc": 7, "fault": None, **more}


def saw(t0, firstname=None, there=True):
    """A SELECT of record 1 of contacts; only its first name is filled."""
    row = {"1": [firstname, None, None, None, None, None]} if there else {}
    return {"k": "r", "c": KEY, "t0": t0, "t1": t0 + 0.1, "asked": ["1"], "rows": row}


# a contact that is made by a, changed by b, deleted by c
LIFE = [change(9, "a", firstname="one"), change(19, "b", firstname="two"), change(29, "c", gone=True)]
ANSWERED = [wrote("a", 10, status=201), wrote("b", 20), wrote("c", 30, status=204)]
CAME = [came("a", status=201), came("b"), came("c", status=204)]


def judged(lines, changes=LIFE, arrivals=CAME):
    verdict = Verdict()
    judge = Judge(changes, arrivals, ANSWERED + lines, verdict).run()
    return judge, {k: n for k, n in verdict.count.items() if n}


def test_a_life_as_it_should_be_has_no_anomaly():
    reads = [saw(1, there=False), saw(9.2, "one"), saw(11, "one"), saw(19.2, "two"), saw(21, "two"), saw(29.2, there=False), saw(31, there=False)]
    assert judged(reads)[1] == {}


@pytest.mark.parametrize("read,kind", [
    (saw(11, there=False), "stale"),            # a is committed, and its record is not there: its delete is yet to come
    (saw(21, "one"), "stale"),                  # b is committed, and a's value is
    (saw(31, "two"), "resurrected"),            # c is committed, and the record is there
    (saw(11, "nobody's"), "invented"),          # a value that the API never had
])
def test_what_contradicts_a_committed_answer_is_found(read, kind):
    assert judged([read])[1] == {kind: 1}


@pytest.mark.parametrize("reads,kind", [
    ([saw(9.2, "one"), saw(9.5, there=False)], "non_monotonic"),
    ([saw(19.2, "two"), saw(19.5, "one")], "non_monotonic"),
    ([saw(29.2, there=False), saw(29.5, "two")], "resurrected"),
])
def test_what_contradicts_an_earlier_select_is_found(reads, kind):
    assert judged(reads)[1] == {kind: 1}


def test_a_value_is_not_seen_before_the_api_has_it():
    assert judged([saw(11, "two")])[1] == {"stale": 1}


def test_selects_that_overlap_may_see_either():
    first = {**saw(19.2, "two"), "t1": 19.8}
    assert judged([first, saw(19.5, "one")])[1] == {}


def test_a_change_that_the_request_did_not_name_is_no_promise():
    changes = [change(1, "a", key="0-1:0-2", one="1:2", labels="Primary"), change(2, "b", key="0-1:0-2", one="1:2", implied=True, labels="")]
    line = {"k": "l", "c": "0-1:0-2", "t0": 21, "t1": 22, "asked": ["1:2"], "rows": {"1:2": ["Primary"]}}
    assert judged([line], changes)[1] == {}
    changes[1]["implied"] = False
    assert judged([line], changes)[1] == {"stale": 1}


def test_a_request_that_came_twice_is_found():
    assert judged([], arrivals=CAME + [came("b")])[1] == {"duplicated": 1}


@pytest.mark.parametrize("answer,arrivals", [
    (wrote("d", 40, commit=None, status=502, error="upstream_unreachable",
           says={"source": "sequin_proxy", "code": "upstream_unreachable", "sent_upstream": False}), [came("d")]),
    (wrote("d", 40, commit=None, status=502, error="not_ready", says={"source": "the API", "code": "not_ready", "sent_upstream": False}), []),
    (wrote("d", 40, commit=None), [came("d")]),
    (wrote("d", 40), []),
    (wrote("d", 40), [came("d", status=404)]),
    (wrote("d", 40), [came("d", crc=8)]),
])
def test_an_answer_that_misleads_about_who_spoke_is_found(answer, arrivals):
    assert judged([answer], arrivals=CAME + arrivals)[1] == {"confused": 1}


def test_an_accepted_change_that_is_called_none_is_found():
    assert judged([wrote("d", 40, commit="none")], [*LIFE, change(39, "d", one="2", firstname="x")], CAME + [came("d")])[1] == {"confused": 1}


@pytest.mark.parametrize("rows,lost", [
    ({("0-1", "2"): {"firstname": "x"}}, {}),
    ({}, {"lost": 1}),
    ({("0-1", "2"): {"firstname": None}}, {"lost": 1}),
    ({("0-1", "2"): {"firstname": "x"}, ("0-1", "1"): {"firstname": "two"}}, {"lost": 1}),
])
def test_what_a_request_of_unknown_outcome_changed_must_be_there_at_the_end(rows, lost):
    cut = {**wrote("d", 40), "status": None, "cut": "reset", "hung_up": False}
    judge, found = judged([cut], [*LIFE, change(39, "d", one="2", firstname="x")], CAME + [came("d")])
    assert found == {}
    judge.lost(rows)
    assert {k: n for k, n in judge.verdict.count.items() if n} == lost
