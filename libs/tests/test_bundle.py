"""Model bundles: loaded whole and as exported, or refused by the name of what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from huracan.errors import BadInput
from huracan.inference.bundle import MANIFEST, Manifest, load_bundle, write_bundle

CONTENTS = {"model.onnx": b"\x00\x01\x02", "card.md": b"# Card\n"}


def _manifest(**changes: object) -> Manifest:
    given: dict[str, object] = {
        "name": "regime",
        "version": 3,
        "model": "strided_cnn",
        "classes": ("High_Volatility", "Low_Volatility"),
        "feature_set": "bar",
        "feature_set_digest": "0" * 64,
        "columns": ("log_return", "log_range"),
        "window": 64,
        "interval_ns": 900_000_000_000,
        "horizon_steps": 16,
        "data_digest": "1" * 64,
        "run_id": "run",
        "metrics": {"log_loss": 1.2},
    }
    return Manifest.model_validate(given | changes)


def test_a_bundle_comes_back_as_it_was_written(tmp_path: Path) -> None:
    written = write_bundle(tmp_path / "regime", _manifest(), CONTENTS)
    loaded = load_bundle(tmp_path / "regime")
    assert loaded == written
    assert loaded.contents == CONTENTS
    assert set(loaded.manifest.files) == set(CONTENTS)
    assert [each.name for each in tmp_path.iterdir()] == ["regime"]


def test_a_newer_bundle_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    older = write_bundle(tmp_path / "regime", _manifest(), {**CONTENTS, "old.txt": b"gone"})
    newer = write_bundle(tmp_path / "regime", _manifest(version=4), CONTENTS)
    assert load_bundle(tmp_path / "regime") == newer
    assert newer.digest != older.digest


def test_a_bundle_never_takes_the_place_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match="is no model bundle; name another place"):
        write_bundle(tmp_path, _manifest(), CONTENTS)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_bundle_that_cannot_be_written_is_refused_by_its_place_and_leaves_nothing_there(tmp_path: Path) -> None:
    older = write_bundle(tmp_path / "regime", _manifest(), CONTENTS)
    with pytest.raises(BadInput, match=r"regime cannot be written: File name too long"):
        write_bundle(tmp_path / "regime", _manifest(version=4), {**CONTENTS, "x" * 300: b""})
    assert [each.name for each in tmp_path.iterdir()] == ["regime"]
    assert load_bundle(tmp_path / "regime") == older


def test_a_place_that_cannot_be_made_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for place, why in (
        (tmp_path / "notes.txt", "File exists"),
        (tmp_path / "notes.txt" / "bundles", "Not a directory"),
        (tmp_path / ("x" * 300), "File name too long"),
        (Path("/proc/bundles"), "No such file or directory"),
    ):
        with pytest.raises(BadInput, match=rf"^{place} cannot be made: {why}$"):
            write_bundle(place / "regime", _manifest(), CONTENTS)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert [each.name for each in tmp_path.iterdir()] == ["notes.txt"]


def test_a_bundle_takes_the_place_of_a_link_to_one_and_leaves_alone_what_it_led_to(tmp_path: Path) -> None:
    older = write_bundle(tmp_path / "elsewhere", _manifest(), CONTENTS)
    (tmp_path / "regime").symlink_to(older.directory)
    newer = write_bundle(tmp_path / "regime", _manifest(version=4), CONTENTS)
    assert load_bundle(tmp_path / "regime") == newer
    assert not (tmp_path / "regime").is_symlink()
    assert load_bundle(tmp_path / "elsewhere") == older


def test_a_bundle_never_takes_the_place_of_a_link_to_something_else(tmp_path: Path) -> None:
    (tmp_path / "regime").symlink_to(tmp_path / "gone")
    with pytest.raises(BadInput, match="is no model bundle; name another place"):
        write_bundle(tmp_path / "regime", _manifest(), CONTENTS)
    assert [each.name for each in tmp_path.iterdir()] == ["regime"]


def test_one_flipped_byte_is_refused_by_the_name_of_its_file(tmp_path: Path) -> None:
    write_bundle(tmp_path / "regime", _manifest(), CONTENTS)
    (tmp_path / "regime" / "model.onnx").write_bytes(b"\x00\x01\x03")
    with pytest.raises(BadInput, match=r"model\.onnx was .* it is not what was exported"):
        load_bundle(tmp_path / "regime")


def test_a_missing_file_and_one_too_many_are_refused_by_name(tmp_path: Path) -> None:
    write_bundle(tmp_path / "regime", _manifest(), CONTENTS)
    (tmp_path / "regime" / "extra.bin").write_bytes(b"x")
    with pytest.raises(BadInput, match=r"extra\.bin is not named in manifest\.json"):
        load_bundle(tmp_path / "regime")
    (tmp_path / "regime" / "extra.bin").unlink()
    (tmp_path / "regime" / "card.md").unlink()
    with pytest.raises(BadInput, match=r"card\.md is missing"):
        load_bundle(tmp_path / "regime")


def test_a_directory_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"is no model bundle: it has no manifest\.json"):
        load_bundle(tmp_path)


def test_a_directory_that_cannot_be_read_is_refused_by_its_name_and_the_reason(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"x{300} cannot be read: File name too long"):
        load_bundle(tmp_path / ("x" * 300))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": 0}, "window: Input should be greater than 0"),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
        ({"data_digest": "abc"}, "data_digest: String should match pattern"),
        ({"files": {"../model.onnx": "0" * 64}}, r"files\.\.\./model\.onnx\.\[key\]: String should match pattern"),
    ],
)
def test_a_manifest_that_is_not_right_is_refused_by_its_field(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    write_bundle(tmp_path / "regime", _manifest(), CONTENTS)
    path = tmp_path / "regime" / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BadInput, match=message):
        load_bundle(tmp_path / "regime")
