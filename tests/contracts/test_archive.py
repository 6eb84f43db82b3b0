"""What the archive compares: checksums that hold place and bytes, differences by block, months."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.archive import BLOCK_SEQS, Block, differences, parse_month, row_checksum, total
from contracts.errors import BadInput

pytestmark = pytest.mark.unit

ROWS = st.dictionaries(
    st.tuples(st.integers(0, 2), st.integers(1, 3 * BLOCK_SEQS)), st.binary(max_size=20), max_size=30
)


def blocks_of(rows: dict[tuple[int, int], bytes]) -> dict[tuple[int, int], Block]:
    found: dict[tuple[int, int], Block] = {}
    for (shard, seq), event in rows.items():
        key = (shard, seq // BLOCK_SEQS)
        had = found.get(key, Block(0, 0))
        found[key] = Block(had.entries + 1, had.checksum + row_checksum(shard, seq, event))
    return found


@pytest.mark.property
@given(ROWS, ROWS)
def test_blocks_differ_exactly_where_rows_do(
    one: dict[tuple[int, int], bytes], other: dict[tuple[int, int], bytes]
) -> None:
    changed = {
        (shard, seq // BLOCK_SEQS)
        for shard, seq in one.keys() | other.keys()
        if one.get((shard, seq)) != other.get((shard, seq))
    }
    assert len(changed) == len(differences(blocks_of(one), blocks_of(other)))
    assert total(blocks_of(one)).entries == len(one)


def test_the_place_is_part_of_the_row_and_60_bits_are_kept() -> None:
    assert row_checksum(0, 1, b"x") != row_checksum(1, 0, b"x") != row_checksum(0, 1, b"y")
    assert row_checksum(1, 11, b"x") != row_checksum(11, 1, b"x")
    assert all(0 <= row_checksum(0, seq, b"e") < 1 << 60 for seq in range(100))


def test_what_differs_is_named() -> None:
    ours, theirs = {(1, 2): Block(5, 7), (0, 0): Block(1, 1)}, {(1, 2): Block(4, 6), (0, 0): Block(1, 2)}
    assert [
        "shard 0, seq 0 to 9999: the bytes differ",
        "shard 1, seq 20000 to 29999: history has 5, the lake 4",
    ] == differences(ours, theirs)


@pytest.mark.parametrize("text", ["2026", "2026-13", "2026-1", "2026-01-01", "next"])
def test_a_month_is_a_month(text: str) -> None:
    with pytest.raises(BadInput, match=r"invalid_field|wrong_start"):
        parse_month(text)
    assert "2026-01-01" == parse_month("2026-01").isoformat()
