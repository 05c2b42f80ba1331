"""The library of engines: bundles of which there are several copies, and digests that begin alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from huracan.errors import BadInput
from huracan.expert.engines import Engines, Library, named
from huracan.inference.bundle import Bundle

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


def test_a_bundle_that_is_being_written_is_not_in_the_library_yet(tmp_path: Path) -> None:
    bundle(tmp_path / ".a.1234")
    assert Library(tmp_path).bundles() == {}
    written = bundle(tmp_path / "a")
    assert list(Library(tmp_path).bundles()) == [written.digest]


@pytest.fixture
def alike(tmp_path: Path) -> tuple[Bundle, Bundle]:
    """Return a bundle, and one in `library` whose digest begins with the same digit."""
    configured = bundle(tmp_path / "configured")
    begins = configured.digest.hex()[0]
    versions = (bundle(tmp_path / "library" / "other", version=version) for version in range(2, 500))
    return configured, next(each for each in versions if each.digest.hex()[0] == begins)


def _engines(configured: Bundle, library: Path | None) -> Engines[str]:
    return Engines("flow", "configured", named(configured), lambda opened: opened.digest.hex(), Library(library))


def test_a_beginning_that_the_configured_bundle_shares_with_another_means_neither(
    alike: tuple[Bundle, Bundle], tmp_path: Path
) -> None:
    configured, other = alike
    engines = _engines(configured, tmp_path / "library")
    with pytest.raises(BadInput, match=r"bundle was '.': 2 in .*library have a digest that begins so"):
        engines.open(configured.digest.hex()[0])
    for each, answers in ((configured, "configured"), (other, other.digest.hex())):
        assert engines.open(each.digest.hex()) == (named(each), answers)


def test_a_copy_of_the_configured_bundle_in_the_library_is_no_other_bundle(tmp_path: Path) -> None:
    configured = bundle(tmp_path / "configured")
    bundle(tmp_path / "library" / "copy")
    engines = _engines(configured, tmp_path / "library")
    assert engines.open(configured.digest.hex()[0]) == (named(configured), "configured")


def test_the_configured_bundle_is_found_by_its_digest_where_there_is_no_library(tmp_path: Path) -> None:
    configured = bundle(tmp_path / "configured")
    engines = _engines(configured, None)
    assert engines.open(configured.digest.hex()[:6].upper()) == (named(configured), "configured")
    for nothing in ("", "none"):
        with pytest.raises(BadInput, match="has no library of engines"):
            engines.open(nothing)
