"""Recordings as a venue sends them: byte for byte, with the book that they imply."""

from __future__ import annotations

import gzip
from decimal import Decimal
from pathlib import Path

import pytest

from huracan.clock import MILLISECOND_NS
from huracan.errors import BadInput
from huracan.sim.venue.recording import Recording

from .venue_client import START_NS, Client, StubMarket, is_book, next_frame, with_server

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
REAL = SHARED / "ticks" / "hftbacktest" / "binance_usdm_btcusdt_20240808.jsonl.gz"


def _recording(path: Path, *, compressed: bool) -> list[tuple[str, bytes]]:
    """Write a recording of four frames and a snapshot; return stream and bytes of its frames."""
    depth = '{"stream":"btcusdt@depth@0ms","data": {"e":"depthUpdate","E":%d,"T":1,"s":"BTCUSDT",%s}}'
    trade = '"e":"trade","E":2,"T":2,"s":"BTCUSDT","t":9,"p":"100.10","q":"0.500","X":"MARKET","m":true'
    bids, asks = '[["100.10","2.000"],["99.90","1.000"]]', '[["100.30","3.500"]]'
    frames = [
        ("btcusdt@depth@0ms", depth % (1, '"U":5,"u":8,"pu":4,"b":[["100.10","2.000"]],"a":[]')),
        ("btcusdt@trade", f'{{"stream":"btcusdt@trade","data":{{{trade}}}}}'),
        ("", f'{{"lastUpdateId":10,"E":3,"T":3,"bids":{bids},"asks":{asks}}}'),
        ("btcusdt@depth@0ms", depth % (4, '"U":9,"u":12,"pu":8,"b":[["99.90","0.000"]],"a":[["100.50","1.250"]]')),
    ]
    lines = "".join(f"{START_NS + at * 300 * MILLISECOND_NS} {raw}\n" for at, (_, raw) in enumerate(frames)).encode()
    path.write_bytes(gzip.compress(lines) if compressed else lines)
    return [(stream, raw.encode()) for stream, raw in frames if stream]


@pytest.mark.parametrize("compressed", [True, False])
def test_a_recording_is_sent_byte_for_byte_and_its_book_can_be_asked_for(tmp_path: Path, compressed: bool) -> None:
    frames = _recording(tmp_path / "recording", compressed=compressed)

    async def test(client: Client, market: StubMarket) -> None:
        url = f"{client.server.url}/binance_usdm/stream?streams=btcusdt@depth@100ms/btcusdt@trade"
        async with client.http.ws_connect(url) as socket:
            first = await client.get("/binance_usdm/fapi/v1/depth?symbol=BTCUSDT&limit=1000")
            heard = [b""]
            while heard[-1] != frames[-1][1]:  # the first was due before anybody could listen
                heard.append((await socket.receive()).data.encode())
        assert first["lastUpdateId"] == 10
        assert heard[1:] == [raw for _, raw in frames][1 - len(heard) :]
        later = await client.get("/binance_usdm/fapi/v1/depth?symbol=BTCUSDT&limit=1000")
        assert (later["lastUpdateId"], later["bids"]) == (12, [["100.10", "2.000"]])
        assert later["asks"] == [["100.30", "3.500"], ["100.50", "1.250"]]
        listed = (await client.get("/binance_usdm/fapi/v1/exchangeInfo"))["symbols"][0]
        assert (listed["baseAsset"], listed["filters"][0]["tickSize"]) == ("BTC", "0.10")

    with_server(test, recordings=[Recording(tmp_path / "recording")], speed=3.0)


def test_a_recording_without_a_snapshot_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"1 {}\n")
    with pytest.raises(BadInput, match="empty: no snapshot"):
        Recording(tmp_path / "empty")
    with pytest.raises(BadInput, match="No such file"):
        Recording(tmp_path / "absent")


@pytest.mark.skipif(not REAL.exists(), reason=f"{REAL.name} is not on this machine")
def test_a_real_recording_is_played_with_its_sequence_and_its_book() -> None:
    recording = Recording(REAL)

    async def test(client: Client, market: StubMarket) -> None:
        url = f"{client.server.url}/binance_usdm/stream?streams=btcusdt@depth@0ms/btcusdt@bookTicker"
        async with client.http.ws_connect(url) as socket:
            ids: list[int] = []
            while len(ids) < 60:
                frame = await next_frame(socket, is_book)
                assert not ids or frame["data"]["pu"] == ids[-1]
                ids.append(frame["data"]["u"])
        snapshot = await client.get("/binance_usdm/fapi/v1/depth?symbol=BTCUSDT&limit=1000")
        assert snapshot["lastUpdateId"] >= ids[-1]
        assert Decimal(snapshot["bids"][0][0]) < Decimal(snapshot["asks"][0][0])

    with_server(test, recordings=[recording], speed=10.0)
    assert (recording.implied.tick, recording.implied.lot) == (Decimal("0.10"), Decimal("0.001"))
