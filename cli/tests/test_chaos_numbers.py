"""Numbers that must be there against those that are: each fault is found, named, and found once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from huracan_cli.chaos.numbers import NAMED, Compared, compare


def test_what_is_there_once_and_in_order_has_no_faults() -> None:
    assert compare("ticks", [1, 2, 5], [1, 2, 5]) == Compared("ticks")
    assert compare("ticks", [1, 2, 5], [1, 2, 5]).faults() == []


def test_each_fault_is_told_by_its_numbers() -> None:
    found = compare("ticks", [1, 2, 3, 4, 5], [2, 1, 4, 4, 9])
    assert (found.lost, found.duplicated, found.unknown, found.out_of_order) == ([3, 5], [4], [9], [1])
    assert found.faults() == [
        "ticks: 2 lost: 3, 5",
        "ticks: 1 more than once: 4",
        "ticks: 1 never given: 9",
        "ticks: 1 out of order: 1",
    ]


def test_only_the_first_of_many_are_named() -> None:
    (line,) = compare("ticks", list(range(100)), []).faults()
    assert line == f"ticks: 100 lost: {', '.join(map(str, range(NAMED)))}, …"


@given(numbers=st.lists(st.integers(), unique=True, min_size=2), data=st.data())
def test_any_one_thing_that_is_wrong_is_found(numbers: list[int], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(numbers) - 1))
    assert compare("n", numbers, numbers[:at] + numbers[at + 1 :]).lost == [numbers[at]]
    assert compare("n", numbers, [*numbers, numbers[at]]).duplicated == [numbers[at]]
    first, *rest = numbers
    assert compare("n", numbers, [*rest, first]).out_of_order == [first]
