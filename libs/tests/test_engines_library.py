"""The library of engines: bundles of which there are several copies."""

from __future__ import annotations

from pathlib import Path

import pytest

from huracan.errors import BadInput
from huracan.expert.engines import Library

from .models_of_tests import bundle


@pytest.mark.parametrize("damaged", ["a", "b", "c"])
def test_a_damaged_copy_of_a_bundle_does_not_keep_a_whole_one_from_serving(tmp_path: Path, damaged: str) -> None:
    whole, *_ = [bundle(tmp_path / name) for name in "abc"]
    (tmp_path / damaged / "model.onnx").write_bytes(b"another")
    loaded = Library(tmp_path).load(whole.digest.hex())
    assert (loaded.digest, loaded.contents) == (whole.digest, whole.contents)


def test_a_bundle_of_which_no_copy_is_whole_is_refused_by_what_is_wrong_with_the_first(tmp_path: Path) -> None:
    first, again = bundle(tmp_path / "a"), bundle(tmp_path / "b")
    for each in (first, again):
        (each.directory / "model.onnx").write_bytes(b"another")
    with pytest.raises(BadInput, match=r"a/model\.onnx was .*it is not what was exported"):
        Library(tmp_path).load(first.digest.hex())
