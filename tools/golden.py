"""Write golden bytes: for every message of the contracts, filled examples as text with the bytes they must have.

An example is never rewritten: a new message or field gets a further example, a new way of a oneof too. `--check` writes
nothing and fails when a message, a field or a pair of text and bytes is not right.
"""

import argparse
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path

from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from huracan.contracts.codec import SCHEMAS, encode

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "contract" / "golden"
HEX = "# hex: "
WIDTH = 110

Value = str | bytes | bool | int | float


def scalar(field: FieldDescriptor, place: int) -> Value:
    """Return a value that differs from the default, between fields, and between places in a list."""
    number = 100 * field.number + place
    kinds = FieldDescriptor
    match field.type:
        case kinds.TYPE_STRING:
            return f"{field.name} {place} é"
        case kinds.TYPE_BYTES:
            return bytes([0, 255, field.number, place])
        case kinds.TYPE_BOOL:
            return True
        case kinds.TYPE_ENUM:
            assert field.enum_type is not None
            return int(field.enum_type.values[-1 - place].number)
        case kinds.TYPE_DOUBLE | kinds.TYPE_FLOAT:
            return -number - 0.25
        case kinds.TYPE_INT64 | kinds.TYPE_INT32 | kinds.TYPE_SINT64 | kinds.TYPE_SINT32:
            return 1_700_000_000_000_000_000 + number if field.name.endswith("_ns") else -number
    return number


def fill(message: Message, wanted: Iterable[str] = (), place: int = 0) -> None:
    """Give every field a value; of a oneof the first field that is wanted, else its first."""
    for field in message.DESCRIPTOR.fields:
        assert isinstance(field, FieldDescriptor)
        oneof = field.containing_oneof
        if oneof is not None and field != next((way for way in oneof.fields if way.name in wanted), oneof.fields[0]):
            continue
        if field.message_type is not None:
            below = getattr(message, field.name)
            for index, part in enumerate([below.add(), below.add()] if field.is_repeated else [below]):
                fill(part, place=index)
        elif field.is_repeated:
            getattr(message, field.name).extend([scalar(field, place), scalar(field, place + 1)])
        else:
            setattr(message, field.name, scalar(field, place))


def text_of(message: Message) -> str:
    """Return an example as the text of its file."""
    name = message.DESCRIPTOR.full_name
    lines = textwrap.wrap(encode(message).hex(), WIDTH)
    return "".join([f"# proto-message: {name}\n", *(f"{HEX}{line}\n" for line in lines), "\n", shown(message)])


def shown(message: Message) -> str:
    """Return the text form of a message."""
    return text_format.MessageToString(message, as_utf8=True)


def bytes_of(text: str) -> bytes:
    """Return the bytes that an example must have."""
    return bytes.fromhex("".join(line.removeprefix(HEX) for line in text.splitlines() if line.startswith(HEX)))


def examples(folder: Path, schema: str) -> list[Path]:
    """Return the examples of a message, oldest first."""
    found = [path for path in folder.glob(f"{schema}.*.textproto") if path.name.split(".")[-2].isdigit()]
    return sorted(found, key=lambda path: int(path.name.split(".")[-2]))


def uncovered(folder: Path, schema: str) -> list[str]:
    """Return the fields of a message that no example sets."""
    kind = SCHEMAS[schema]
    covered = set()
    for path in examples(folder, schema):
        covered |= {field.name for field, _ in kind.FromString(bytes_of(path.read_text("utf-8"))).ListFields()}
    return [field.name for field in kind.DESCRIPTOR.fields if field.name not in covered]


def complete(folder: Path, schema: str) -> list[Path]:
    """Write examples of a message until each of its fields is in one; return them."""
    written: list[Path] = []
    while left := uncovered(folder, schema):
        message = SCHEMAS[schema]()
        fill(message, left)
        path = folder / f"{schema}.{len(examples(folder, schema)) + 1}.textproto"
        path.write_text(text_of(message), encoding="utf-8")
        written.append(path)
    return written


def problems(folder: Path) -> list[str]:
    """Return what is wrong with the examples of a folder."""
    found = [
        f"{schema}: no example sets {', '.join(left)}" for schema in SCHEMAS if (left := uncovered(folder, schema))
    ]
    known = {path for schema in SCHEMAS for path in examples(folder, schema)}
    for path in sorted(folder.iterdir()):
        if path not in known:
            found.append(f"{path.name}: not an example of any message")
            continue
        text = path.read_text("utf-8")
        message = SCHEMAS[path.name.rsplit(".", 2)[0]].FromString(bytes_of(text))
        if text != text_of(message):
            found.append(f"{path.name}: its bytes are not those of its text")
    return found


def main() -> int:
    """Write the missing examples, or with --check report what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 when an example is missing or wrong"
    )
    parser.add_argument("--folder", type=Path, default=GOLDEN, help="folder of the examples")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    if arguments.check:
        found = problems(folder)
        print("".join(f"{line}\n" for line in found), end="")
        return int(bool(found))
    folder.mkdir(parents=True, exist_ok=True)
    for schema in SCHEMAS:
        for path in complete(folder, schema):
            print(f"written: {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
