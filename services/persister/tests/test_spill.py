"""The spill: in order, to the byte, over restarts; bounded; damaged files told by name and set aside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huracan.errors import BadInput
from huracan_persister.spill import DAMAGED, SEGMENT_BYTES, SUFFIX, Spill, Spilled, SpillFull


def _message(number: int, size: int = 20) -> Spilled:
    return Spilled(f"exec.v1.paper.{number}", number, 1 + number % 3, ("huracan.execution.v1.Fill", b"\xff" * size))


def _opened(directory: Path, max_bytes: int = 1 << 30) -> Spill:
    spill = Spill(directory, max_bytes)
    spill.open()
    return spill


def _read_all(spill: Spill) -> list[Spilled]:
    messages = []
    while spill:
        segment = spill.oldest()
        assert segment.damage == ()
        messages += segment.messages
        assert spill.remove(segment) is None
    return messages


def test_messages_come_back_in_order_after_a_restart(tmp_path: Path) -> None:
    spill = _opened(tmp_path)
    assert not spill
    spill.append([_message(1), _message(2)])
    spill.append([_message(3)])
    spill.close()
    again = _opened(tmp_path)
    assert again
    again.append([_message(4)])
    assert _read_all(again) == [_message(number) for number in range(1, 5)]
    assert again.bytes == 0
    again.append([_message(5)])
    assert _read_all(again) == [_message(5)]
    again.close()
    assert not list(tmp_path.glob(f"*{SUFFIX}*"))


def test_what_comes_while_a_file_is_read_goes_into_the_next(tmp_path: Path) -> None:
    spill = _opened(tmp_path)
    spill.append([_message(1)])
    segment = spill.oldest()
    spill.append([_message(2)])
    spill.remove(segment)
    assert _read_all(spill) == [_message(2)]
    spill.close()


def test_a_file_is_closed_when_it_is_long(tmp_path: Path) -> None:
    spill = _opened(tmp_path)
    for number in range(5):
        spill.append([_message(number, SEGMENT_BYTES // 2)])
    assert len(spill) == 3
    assert [message.epoch for message in _read_all(spill)] == list(range(5))
    spill.close()


@given(
    messages=st.lists(
        st.builds(Spilled, st.text(), st.integers(0, 2**64 - 1), st.integers(1, 9), st.tuples(st.text(), st.binary()))
    )
)
def test_any_message_comes_back_to_the_byte(messages: list[Spilled], tmp_path_factory: pytest.TempPathFactory) -> None:
    spill = _opened(tmp_path_factory.mktemp("spill"))
    spill.append(messages)
    assert _read_all(spill) == messages
    spill.close()


def test_an_attempt_past_what_a_file_can_say_is_the_most_that_it_can(tmp_path: Path) -> None:
    spill = _opened(tmp_path)
    spill.append([Spilled("a", 1, 99_999_999_999, ("b", b""))])
    assert _read_all(spill) == [Spilled("a", 1, 2**32 - 1, ("b", b""))]
    spill.close()


def test_past_its_bound_it_takes_nothing_and_keeps_what_it_has(tmp_path: Path) -> None:
    spill = _opened(tmp_path, 200)
    spill.append([_message(1)])
    with pytest.raises(SpillFull, match=r"holds 88 bytes and may hold 200: bring the database back"):
        spill.append([_message(2), _message(3)])
    spill.append([_message(4)])
    assert _read_all(spill) == [_message(1), _message(4)]
    spill.append([_message(5)])
    spill.close()


def test_a_full_disk_is_told_and_costs_nothing_that_is_there(tmp_path: Path) -> None:
    spill = _opened(tmp_path)
    spill.append([_message(1)])
    spill.oldest()
    full = tmp_path / f"{2:012d}{SUFFIX}"
    full.symlink_to("/dev/full")
    with pytest.raises(SpillFull, match=r"cannot be written: No space left on device; make room on its disk"):
        spill.append([_message(2)])
    full.unlink()
    full.touch()
    spill.append([_message(3)])
    assert _read_all(spill) == [_message(1), _message(3)]
    spill.close()


def test_a_disk_full_from_the_first_message_on_leaves_nothing_that_waits(tmp_path: Path) -> None:
    spill = _opened(tmp_path)
    full = tmp_path / f"{1:012d}{SUFFIX}"
    full.symlink_to("/dev/full")
    for _ in range(3):
        with pytest.raises(SpillFull, match="No space left on device"):
            spill.append([_message(1)])
        assert not spill
    full.unlink()
    full.write_bytes(b"what a try left")
    spill.append([_message(1)])
    spill.append([_message(2)])
    assert len(list(tmp_path.glob(f"*{SUFFIX}"))) == 1
    assert _read_all(spill) == [_message(1), _message(2)]
    spill.close()


ENDS, OTHER = "the file ends within a message", "a message does not fit its checksum"


@pytest.mark.parametrize(
    ("damage", "left", "told"),
    [
        (lambda data: data[:-1], [1, 2], [f"byte 176: {ENDS}"]),
        (lambda data: data[:180], [1, 2], [f"byte 176: {ENDS}"]),
        (lambda data: data[:-1] + b"x", [1, 2], [f"byte 176: {OTHER}"]),
        (lambda data: data[:100] + b"x" + data[101:], [1, 3], [f"byte 88: {OTHER}"]),
        (lambda data: data[:87] + b"x" + data[88:-1] + b"x", [2], [f"byte 0: {OTHER}", f"byte 176: {OTHER}"]),
        (lambda data: b"\x01" + data[1:], [], ["byte 0: the length of a message does not fit its checksum"]),
    ],
    ids=["a byte short", "within the last", "another byte", "within the second", "in two messages", "another length"],
)
def test_of_a_damaged_file_every_message_that_can_be_found_is_read_and_it_is_set_aside_by_name(
    tmp_path: Path, damage: Callable[[bytes], bytes], left: list[int], told: list[str]
) -> None:
    spill = _opened(tmp_path)
    spill.append([_message(number) for number in (1, 2, 3)])
    spill.close()
    (path,) = tmp_path.glob(f"*{SUFFIX}")
    data = path.read_bytes()
    assert len(data) == 264
    path.write_bytes(damage(data))
    again = _opened(tmp_path)
    again.append([_message(4)])
    segment = again.oldest()
    assert segment.messages == [_message(number) for number in left]
    assert segment.damage == tuple(told)
    aside = again.remove(segment)
    assert aside == path.with_name(path.name + DAMAGED)
    assert aside.read_bytes() == damage(data)
    assert _read_all(again) == [_message(4)]
    again.close()
    third = _opened(tmp_path)
    third.append([_message(5)])
    assert third.oldest().path.name == f"{2:012d}{SUFFIX}"
    third.close()


def test_a_directory_that_another_has_or_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    spill = _opened(tmp_path)
    with pytest.raises(BadInput, match=r"spill\.directory was .*, which another process has"):
        _opened(tmp_path)
    spill.close()
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(BadInput, match=r"spill\.directory was .*file, which cannot be used"):
        _opened(file)
