"""A dimension's sketch: counts, values and single answers give the same, merged by level, refused at another size."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import BadInput
from contracts.sketched import BY_KIND, DIMENSIONS, QUANTILES, Dimension, subject_of
from sketches import windows
from sketches.count_min import CountMin
from sketches.distinct import Distinct
from sketches.frequent_items import FrequentItems
from sketches.quantiles import Quantiles


@dataclass(frozen=True)
class Answer:
    quiz_id: str
    question_id: str
    question_type: str
    skill_tags: tuple[str, ...]
    correct: bool
    elapsed_ms: int
    points: int
    user_id: str


ANSWERS = st.lists(
    st.builds(
        Answer,
        st.sampled_from(["z1", "z2"]),
        st.integers(0, 9).map(str),
        st.sampled_from(["choice", "typed"]),
        st.sampled_from([(), ("verbs",), ("word:run",), ("verbs", "word:go")]),
        st.booleans(),
        st.integers(0, 90_000),
        st.integers(0, 1_000),
        st.integers(0, 30).map(str),
    ),
    max_size=40,
)


def at_once(dimension: Dimension, answers: list[Answer]) -> windows.Sketch:
    """As Flink makes it: from counts by key or from values."""
    if dimension.sketch == QUANTILES:
        return windows.of_values(dimension, [getattr(answer, dimension.measure) for answer in answers])
    if dimension.measure == "users":
        return windows.of_counts(dimension, Counter(answer.user_id for answer in answers))
    counts: Counter[str] = Counter()
    for answer in answers:
        key = subject_of(answer, dimension.subject)
        if key is not None:
            counts[key] += not answer.correct
    return windows.of_counts(dimension, counts)


def says(dimension: Dimension, sketch: windows.Sketch) -> object:
    """All that a small sketch tells, exactly."""
    if isinstance(sketch, CountMin):
        return sketch.to_bytes()
    if isinstance(sketch, FrequentItems):
        return sketch.heaviest(dimension.subject, 99)
    if isinstance(sketch, Distinct):
        return sketch.estimate()
    return sketch.count, [sketch.quantile(rank) for rank in (0.0, 0.3, 0.5, 0.9, 1.0)]


@pytest.mark.property
@settings(max_examples=25, deadline=None)
@given(ANSWERS, ANSWERS)
def test_one_by_one_merged_and_at_once_tell_the_same(some: list[Answer], more: list[Answer]) -> None:
    for dimension in DIMENSIONS:
        whole = at_once(dimension, some + more)
        one_by_one = windows.empty(dimension)
        windows.add(dimension, one_by_one, some + more)
        text = windows.as_text(at_once(dimension, some))
        parts = [windows.from_text(dimension, text), at_once(dimension, more), windows.empty(dimension)]
        both = windows.merged(dimension, parts)
        assert says(dimension, whole) == says(dimension, one_by_one)
        if dimension.sketch != QUANTILES or len(some + more) < 60:
            assert says(dimension, whole) == says(dimension, both)
        assert says(dimension, at_once(dimension, some)) == says(dimension, parts[0]), (
            "merging changed a part"
        )


@pytest.mark.unit
def test_another_size_or_kind_is_refused() -> None:
    others = {
        "missed_words": CountMin.from_error(0.01),
        "missed_types": CountMin.from_error(0.001),
        "heavy_words": FrequentItems.from_size(5),
        "participants": Distinct.from_size(5),
        "elapsed_ms": Quantiles.from_size(24),
        "points": Quantiles.from_size(24),
    }
    for kind, other in others.items():
        for data in (other.to_bytes(), b"", windows.empty(BY_KIND["heavy_quizzes"]).to_bytes()[:20]):
            with pytest.raises(BadInput) as raised:
                windows.read(BY_KIND[kind], data)
            assert raised.value.code == "bad_sketch"
    with pytest.raises(BadInput) as raised:
        windows.from_text(BY_KIND["missed_words"], "no base64")
    assert raised.value.code == "bad_sketch"


@pytest.mark.unit
def test_nothing_merged_is_empty() -> None:
    for dimension in DIMENSIONS:
        assert says(dimension, windows.merged(dimension, [])) == says(dimension, windows.empty(dimension))
