"""The fast way to an answer's bytes and back is the contract's, byte for byte and refusal for refusal."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import events
from contracts.errors import BadInput
from contracts.events import ANSWER_FIELDS, AnswerEvent
from contracts.identity import NAMESPACE, event_id
from serving import event_bytes

_TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
_KINDS: dict[str, st.SearchStrategy[Any]] = {
    "str": _TEXTS,
    "uuid": st.uuids().map(str),
    "u32": st.integers(0, 2**32 - 1),
    "i64": st.integers(-(2**63), 2**63 - 1),
    "bool": st.booleans(),
    "strs": st.lists(_TEXTS, max_size=3).map(tuple),
    "opt_str": st.none() | _TEXTS,
}
_VALUES = {field.name: _KINDS[field.kind] for field in ANSWER_FIELDS} | {
    "origin": st.sampled_from(["live", "import"]),
    "elapsed_ms": st.integers(0, 2**63 - 1),
    "time_limit_ms": st.integers(1, 2**63 - 1),
}
EVENTS = st.builds(AnswerEvent, **_VALUES)
_ODD = st.sampled_from([None, True, 0, -1, 2**32, 2**63, 1.5, 1.0, "", "x" * 36, [], [1], ["a"], {}])


def refused(decode: Any, data: bytes) -> bool:
    try:
        decode(data)
    except BadInput as error:
        assert "bad_event" == error.code
        return True
    return False


@pytest.mark.property
@given(event=EVENTS)
def test_the_bytes_and_the_values_are_the_contracts(event: AnswerEvent) -> None:
    data = events.encode(event)
    assert data == event_bytes.encode(event)
    assert tuple(getattr(event, field.name) for field in ANSWER_FIELDS) == event_bytes.values(
        event_bytes.decode(data)
    )


@pytest.mark.property
@given(
    event=EVENTS,
    name=st.sampled_from([f.name for f in ANSWER_FIELDS] + ["more"]),
    value=_ODD,
    gone=st.booleans(),
)
def test_what_the_contract_refuses_is_refused(event: AnswerEvent, name: str, value: Any, gone: bool) -> None:
    document = json.loads(events.encode(event))
    document[name] = value
    if gone:
        del document[name]
    data = json.dumps(document).encode()
    assert refused(events.decode, data) == refused(event_bytes.decode, data)


@pytest.mark.unit
@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 5_000])
def test_what_is_no_object_is_refused(data: bytes) -> None:
    assert refused(events.decode, data) and refused(event_bytes.decode, data)


@pytest.mark.property
@given(session=_TEXTS, question=_TEXTS, user=_TEXTS)
def test_an_event_id_is_the_librarys(session: str, question: str, user: str) -> None:
    import uuid

    assert str(uuid.uuid5(NAMESPACE, f"answer/{session}/{question}/{user}")) == event_id(
        session, question, user
    )
