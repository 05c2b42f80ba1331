"""The declaration of features: what the digest covers, and what a row may hold."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from huracan.features.bar import BAR
from huracan.features.micro import MICRO
from huracan.features.table import Feature, FeatureSet, Missing, feature

State = tuple[float, float]


def first(state: State) -> float:
    return state[0]


def declared(compute: Callable[[State], float] = first) -> Feature[State]:
    return feature(
        1,
        "first",
        unit="ratio",
        low=-1,
        high=1,
        missing=Missing.NAN_IF_FLAT,
        source="a test",
        compute=compute,
    )


def second() -> Feature[State]:
    return replace(declared(lambda state: state[1]), id=2, name="second")


def test_the_digest_covers_the_declaration_and_not_the_code() -> None:
    digest = FeatureSet("set", (declared(),)).digest
    assert len(digest) == 32
    assert FeatureSet("set", (declared(lambda state: -state[1]),)).digest == digest


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "other"},
        {"unit": "bps"},
        {"low": -math.inf},
        {"high": 2},
        {"missing": Missing.NAN_IF_FLAT | Missing.NAN_IF_NO_BOOK},
        {"source": "another test"},
        {"version": 2},
    ],
)
def test_a_change_of_the_declaration_changes_the_digest(changed: dict[str, object]) -> None:
    other = replace(declared(), **changed)  # type: ignore[arg-type]
    assert FeatureSet("set", (other,)).digest != FeatureSet("set", (declared(),)).digest


def test_the_digest_covers_name_and_number_of_the_features() -> None:
    digests = {
        FeatureSet("set", (declared(),)).digest,
        FeatureSet("other", (declared(),)).digest,
        FeatureSet("set", (declared(), second())).digest,
    }
    assert len(digests) == 3


def test_a_row_has_nan_where_a_feature_is_not_a_finite_float32() -> None:
    features = FeatureSet("set", (declared(), second()))
    for missing in (math.nan, math.inf, -math.inf, 1e39):
        row = features.row((0.5, missing))
        assert row.dtype == np.float32
        assert row[0] == np.float32(0.5)
        assert np.isnan(row[1])


def test_a_value_outside_its_range_is_named_and_not_clipped() -> None:
    features = FeatureSet("set", (declared(), second()))
    row = features.row((1.5, math.nan))
    assert row[0] == np.float32(1.5)
    assert features.out_of_range(row) == ["first was 1.5, not in [-1, 1]"]
    assert features.out_of_range(features.row((-1.0, 1.0))) == []


def test_ids_that_do_not_count_from_one_are_refused() -> None:
    with pytest.raises(ValueError, match="ids must count from 1"):
        FeatureSet("set", (second(),))


def test_two_features_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="a name is used twice"):
        FeatureSet("set", (declared(), replace(declared(), id=2)))


@pytest.mark.parametrize("features", [MICRO, BAR])
def test_every_feature_states_unit_range_and_source(features: FeatureSet[object]) -> None:
    for each in features.features:
        assert each.unit
        assert each.source
        assert each.low < each.high
