"""Golden bytes: what a release has written, every later one reads, and writes the same way."""

from __future__ import annotations

import importlib
import pkgutil
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from google.protobuf import text_format
from google.protobuf.message import Message

from huracan import contracts
from huracan.contracts.codec import SCHEMAS, decode, encode

REPO = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).with_name("golden")
EXAMPLES = sorted(GOLDEN.glob("*.textproto"))
HEX = "# hex: "

each_example = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name.removesuffix(".textproto"))


def _schema(path: Path) -> str:
    return path.name.rsplit(".", 2)[0]


def _committed(path: Path) -> tuple[bytes, str]:
    """Return the bytes and the text form that a file holds."""
    lines = path.read_text("utf-8").splitlines(keepends=True)
    data = "".join(line.removeprefix(HEX).strip() for line in lines if line.startswith(HEX))
    return bytes.fromhex(data), "".join(line for line in lines if not line.startswith("#")).lstrip("\n")


def _golden(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPO / "tools" / "golden.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _unknown_field() -> bytes:
    """Return field 19000 with eight bytes in it: no message has it."""
    return bytes([0b1100_0010, 0b1010_0011, 0b1001]) + b"\x08whatever"


def test_every_message_of_every_package_may_travel() -> None:
    written = {
        ".".join([*path.relative_to(REPO / "proto").parts[:-1], line.split()[1]])
        for path in (REPO / "proto").rglob("*.proto")
        for line in path.read_text("utf-8").splitlines()
        if line.startswith("message ")
    }
    assert set(SCHEMAS) == written


def test_every_generated_module_is_known_to_the_codec() -> None:
    modules = [
        importlib.import_module(found.name)
        for found in pkgutil.walk_packages(contracts.__path__, contracts.__name__ + ".")
        if found.name.endswith("_pb2")
    ]
    messages = {kind.full_name for module in modules for kind in module.DESCRIPTOR.message_types_by_name.values()}
    assert messages == set(SCHEMAS)
    assert len(modules) == len({module.DESCRIPTOR.package for module in modules})


@pytest.mark.parametrize("schema", SCHEMAS)
def test_every_field_of_every_message_is_in_a_golden_example(schema: str) -> None:
    kind = SCHEMAS[schema]
    examples = [kind.FromString(_committed(path)[0]) for path in EXAMPLES if _schema(path) == schema]
    covered = {field.number for example in examples for field, _ in example.ListFields()}
    assert covered == {field.number for field in kind.DESCRIPTOR.fields}, "run tools/golden.py"


@each_example
def test_golden_bytes_mean_what_the_text_beside_them_says(path: Path) -> None:
    data, text = _committed(path)
    message = decode(_schema(path), data)
    assert text_format.MessageToString(message, as_utf8=True) == text
    assert message == text_format.Parse(text, SCHEMAS[_schema(path)]())


@each_example
def test_golden_bytes_are_written_again_the_same(path: Path) -> None:
    data, text = _committed(path)
    assert encode(decode(_schema(path), data)) == data
    assert encode(text_format.Parse(text, SCHEMAS[_schema(path)]())) == data


@each_example
def test_fields_of_a_later_release_survive_an_older_reader(path: Path) -> None:
    newer = _committed(path)[0] + _unknown_field()
    message = decode(_schema(path), newer)
    assert encode(message) == newer
    copy = type(message)()
    copy.CopyFrom(message)
    assert encode(copy) == newer


def test_no_message_has_a_map_field_or_a_float_that_is_not_double() -> None:
    for kind in SCHEMAS.values():
        for field in kind.DESCRIPTOR.fields:
            assert field.type != field.TYPE_FLOAT, field.full_name
            assert field.message_type is None or not field.message_type.GetOptions().map_entry, field.full_name


def test_the_committed_examples_are_as_the_tool_wants_them() -> None:
    checked = _golden("--check")
    assert (checked.stdout, checked.returncode) == ("", 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN, tmp_path / "golden"))


def test_a_message_without_an_example_fails_the_check_until_the_tool_has_written_it(folder: Path) -> None:
    removed = folder / "huracan.market.v1.Bar.1.textproto"
    before = removed.read_bytes()
    removed.unlink()
    checked = _golden("--check", "--folder", folder)
    assert checked.returncode == 1
    assert checked.stdout.startswith("huracan.market.v1.Bar: no example sets instrument, interval_ns, open_ns")
    assert _golden("--folder", folder).stdout == "written: huracan.market.v1.Bar.1.textproto\n"
    assert removed.read_bytes() == before
    assert _golden("--check", "--folder", folder).returncode == 0


def test_a_new_field_gets_a_further_example_and_leaves_the_old_bytes_alone(folder: Path) -> None:
    path = folder / "huracan.market.v1.Bar.1.textproto"
    message = SCHEMAS["huracan.market.v1.Bar"].FromString(_committed(path)[0])
    message.ClearField("trades")
    path.write_text(_as_file(message), encoding="utf-8")
    older = path.read_bytes()
    assert _golden("--check", "--folder", folder).stdout == "huracan.market.v1.Bar: no example sets trades\n"
    assert _golden("--folder", folder).stdout == "written: huracan.market.v1.Bar.2.textproto\n"
    assert path.read_bytes() == older
    assert _golden("--check", "--folder", folder).returncode == 0


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("huracan.market.v1.Bar.1", ("trades: 900", "trades: 901"), "its bytes are not those of its text"),
        ("huracan.market.v1.Gone.1", None, "not an example of any message"),
    ],
)
def test_an_example_that_was_tampered_with_fails_the_check(
    folder: Path, name: str, change: tuple[str, str] | None, says: str
) -> None:
    path = folder / f"{name}.textproto"
    text = (folder / "huracan.market.v1.Bar.1.textproto").read_text("utf-8")
    path.write_text(text.replace(*change) if change else text, encoding="utf-8")
    checked = _golden("--check", "--folder", folder)
    assert (checked.stdout, checked.returncode) == (f"{path.name}: {says}\n", 1)


def _as_file(message: Message) -> str:
    lines = [f"{HEX}{line}\n" for line in textwrap.wrap(encode(message).hex(), 110)]
    text = text_format.MessageToString(message, as_utf8=True)
    return f"# proto-message: {message.DESCRIPTOR.full_name}\n{''.join(lines)}\n{text}"
