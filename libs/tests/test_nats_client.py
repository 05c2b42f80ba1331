"""The client under the bus: headers read as the library reads them, a flush that is a barrier."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from huracan.bus.nats.client import MendedClient

lines = st.one_of(
    st.binary(max_size=20),
    st.text(alphabet="aZ-: \t\r\n\x0b\x1c\x85é", max_size=20).map(str.encode),
    st.builds(lambda name, value: f"{name}:{value}".encode(), st.text(max_size=6), st.text(max_size=6)),
)


@given(st.lists(lines, max_size=5))
def test_headers_are_read_as_the_library_reads_them(block: list[bytes]) -> None:
    raw = b"\r\n".join(block)
    assert MendedClient._parse_header_lines(raw) == Client._parse_header_lines(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\r\n\r\n",
        b"Nats-Msg-Id: 1\r\nHuracan-Schema:huracan.market.v1.Bar\r\n\r\n",
        b"a:\tb c \r\n",
        b": without a name\r\n",
        b"two words: x\r\ntab\there: y\r\n",
        b"\x1cunit: separator\r\n",
        b"caf\xc3\xa9: x\r\n",
        b"bad: \xff\xfe\r\n",
        b"a: 1\r\na: 2\r\nA: 3\r\n",
        b"no colon\r\na: b: c\r\n",
        b"folded: a\r\n b\r\n",
        b"bare: a\nb: c\r\n",
    ],
)
def test_odd_headers_are_read_as_the_library_reads_them(raw: bytes) -> None:
    assert MendedClient._parse_header_lines(raw) == Client._parse_header_lines(raw)


def test_aborting_a_client_that_never_connected_does_nothing() -> None:
    async def main() -> None:
        client = MendedClient()
        client.abort()
        assert not client.is_connected

    asyncio.run(main())
