"""Whether two tables of Parquet files say the same: what is to be removed is somewhere else, to the bit."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

_BITS: dict[pa.DataType, pa.DataType] = {pa.float32(): pa.int32(), pa.float64(): pa.int64()}


def same_values(one: pa.Table, other: pa.Table) -> bool:
    """Return whether two tables have the same columns with the same values, of floats to the bit."""
    return one.schema.equals(other.schema) and all(
        _same(one.column(name).combine_chunks(), other.column(name).combine_chunks()) for name in one.schema.names
    )


def _same(one: Any, other: Any) -> bool:
    if pa.types.is_list(one.type):
        return one.value_lengths().equals(other.value_lengths()) and _same(one.flatten(), other.flatten())
    # NaN does not equal itself, but its bits do.
    bits = _BITS.get(one.type, one.type)
    return bool(one.view(bits).equals(other.view(bits)) if bits != one.type else one.equals(other))
