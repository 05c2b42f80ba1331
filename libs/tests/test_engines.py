"""The engines of one key: the library they come from, and which of them are open."""

from __future__ import annotations

from pathlib import Path

import pytest

from huracan.contracts.context import ENGINE, Context, ContextRef, EngineBundle, EngineStage, engine_choice
from huracan.errors import BadInput
from huracan.expert.engines import CONFIGURED, VERSIONS_KEPT, Engines, Library, named
from huracan.inference.bundle import Bundle

from .models_of_tests import bundle

ALONE = EngineBundle(digest=b"\1" * 32, name="plain")


def _engines(directory: Path) -> Engines[str]:
    """Return engines that are the versions of their bundles as text."""
    return Engines("flow", "plain", ALONE, lambda opened: str(opened.manifest.version), Library(directory))


def _choose(engines: Engines[str], version: int, serves: EngineBundle, beside: EngineBundle | None = None) -> Context:
    stage = EngineStage.ENGINE_STAGE_SHADOW if beside else EngineStage.ENGINE_STAGE_SETTLED
    choice = engine_choice(serves, beside=beside, stage=stage, author="ann", reason="")
    made = Context(ref=ContextRef(kind=ENGINE, key="flow", version=version), engine=choice)
    engines.take(made)
    return made


@pytest.fixture
def three(tmp_path: Path) -> list[Bundle]:
    return [bundle(tmp_path / f"number {version}", version=version) for version in (1, 2, 3)]


def test_a_bundle_is_found_by_the_beginning_of_its_digest_and_by_nothing_that_several_have(
    three: list[Bundle], tmp_path: Path
) -> None:
    library = Library(tmp_path)
    (tmp_path / "notes").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "manifest.json").write_text("{")
    assert list(library.bundles()) == [each.digest for each in three]
    assert library.load(three[1].digest.hex()[:10].upper()).manifest.version == 2
    with pytest.raises(BadInput, match=r"bundle was '': 3 in .* begins so"):
        library.load("")
    with pytest.raises(BadInput, match="bundle was 'none': 0 in"):
        library.load("none")


def test_a_copy_of_a_bundle_in_another_directory_is_the_same_bundle(tmp_path: Path) -> None:
    first, again = bundle(tmp_path / "a"), bundle(tmp_path / "b")
    assert first.digest == again.digest
    assert Library(tmp_path).load(first.digest.hex()).digest == first.digest


def test_a_library_that_is_not_named_not_there_or_not_readable_says_so(
    three: list[Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadInput, match="has no library of engines"):
        Library(None).load("1")
    assert Library(tmp_path / "absent").bundles() == {}
    digest, read = three[0].digest.hex(), Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == "model.onnx":
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(BadInput, match=r"number 1 cannot be read: Permission denied"):
        Library(tmp_path).load(digest)


def test_without_a_choice_what_is_configured_answers_and_is_found_by_its_name_or_digest(tmp_path: Path) -> None:
    engines = _engines(tmp_path)
    assert (engines.serving(None), engines.version, engines.choice.serves) == ("plain", 0, ALONE)
    assert engines.open(CONFIGURED) == engines.open("0101") == (ALONE, "plain")
    assert engines.beside(None) is None


def test_what_no_recent_choice_names_is_closed_and_what_is_configured_never(
    three: list[Bundle], tmp_path: Path
) -> None:
    engines, (one, two, _) = _engines(tmp_path), map(named, three)
    engines.ensure(one)
    engines.ensure(two)
    first = _choose(engines, 1, one, beside=two)
    assert (engines.serving(first), engines.beside(first.ref), engines.missing()) == ("1", "2", [])
    for version in range(2, VERSIONS_KEPT + 1):
        newest = _choose(engines, version, two)
        assert engines.serving(first) == "1", "windows may still name it"
        assert (engines.serving(newest), engines.beside(newest.ref), engines.beside(first.ref)) == ("2", None, None)
    _choose(engines, VERSIONS_KEPT + 1, two)
    assert engines.serving(first) is None
    assert engines.serving(None) == "plain"


def test_what_a_choice_names_and_is_not_open_is_missing_until_it_is(three: list[Bundle], tmp_path: Path) -> None:
    engines, (one, two, _) = _engines(tmp_path), map(named, three)
    made = _choose(engines, 1, one, beside=two)
    assert engines.missing() == [one, two]
    assert engines.serving(made) is None
    for name in engines.missing():
        engines.ensure(name)
    assert (engines.missing(), engines.serving(made)) == ([], "1")
