"""Recordings: every line read or refused with a reason, and what cannot be used said in one sentence."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huracan.contracts.market import instrument_key
from huracan.errors import BadInput
from huracan.sim.loop import run_virtual
from huracan.sim.market import SimulatedMarketConfig, write_recording
from huracan_gateway.feed import RecordingFeed
from huracan_gateway.recording import HEAD_LINES, Line, read_head, read_lines
from huracan_gateway.reject import Reason
from huracan_gateway.venues import ADAPTERS

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "ticks" / "hftbacktest"
NS = 1_723_161_255_030_314_667

TRADE = (
    b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161256322,"T":1723161256322,"s":"BTCUSDT","t":1,'
    b'"p":"61800.30","q":"0.006","X":"MARKET","m":false}}'
)
SNAPSHOT = (
    b'{"lastUpdateId":10,"E":1723161256501,"T":1723161256493,"bids":[["61800.20","2.909"],["61800.10","0.696"]],'
    b'"asks":[["61800.30","0.014"],["61800.70","0.003"]]}'
)
HYPERLIQUID = b'{"channel":"l2Book","data":{"coin":"BTC","levels":[[],[]]}}'
SPOT = b'{"stream":"btcusdt@bookTicker","data":{"u":1,"s":"BTCUSDT","b":"1.0","B":"1.0","a":"2.0","A":"1.0"}}'


def line(raw: bytes, recv_ns: int = NS) -> bytes:
    return b"%d %s\n" % (recv_ns, raw)


def read(path: Path, content: bytes) -> list[Line]:
    path.write_bytes(content)
    return list(read_lines(path))


def reasons(lines: Iterable[Line]) -> list[Reason | None]:
    return [entry.rejected.reason if entry.rejected else None for entry in lines]


@pytest.mark.parametrize("name", ["plain.jsonl", "packed.jsonl.gz"])
def test_a_recording_is_read_line_by_line_gzip_or_plain_whatever_its_name(tmp_path: Path, name: str) -> None:
    content = line(TRADE, NS) + b"\r\n\n" + line(SNAPSHOT, NS + 1).replace(b"\n", b"\r\n")
    expected = [Line(NS, TRADE), Line(NS + 1, SNAPSHOT)]
    assert read(tmp_path / name, content) == expected
    assert read(tmp_path / name, gzip.compress(content)) == expected


def test_a_last_line_without_an_end_is_a_line(tmp_path: Path) -> None:
    assert read(tmp_path / "r", line(TRADE)[:-1]) == [Line(NS, TRADE)]


@pytest.mark.parametrize("kept", [0.2, 0.6, 0.999])
def test_a_gzip_file_that_breaks_off_gives_what_can_be_read_and_one_reason(tmp_path: Path, kept: float) -> None:
    whole = b"".join(line(TRADE.replace(b'"t":1', b'"t":%d' % (number * 7919)), NS + number) for number in range(5_000))
    packed = gzip.compress(whole)
    lines = read(tmp_path / "r.gz", packed[: int(len(packed) * kept)])
    assert [entry.recv_ns for entry in lines[:-1]] == list(range(NS, NS + len(lines) - 1))
    assert reasons(lines) == [None] * (len(lines) - 1) + [Reason.TRUNCATED_GZIP]
    assert abs(len(lines) / 5_000 - kept) < 0.1


@pytest.mark.parametrize("tail", [b"garbage", b"\x1f\x8b\x08garbage that is no deflate stream" + bytes(50)])
def test_what_follows_a_gzip_file_and_is_none_is_one_reason(tmp_path: Path, tail: bytes) -> None:
    lines = read(tmp_path / "r.gz", gzip.compress(line(TRADE)) + tail)
    assert reasons(lines) == [None, Reason.TRUNCATED_GZIP]


def test_damage_within_a_gzip_file_is_one_reason(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(line(TRADE) * 3))
    packed[-6] ^= 0xFF  # the checksum
    assert reasons(read(tmp_path / "r.gz", bytes(packed)))[-1] is Reason.TRUNCATED_GZIP


@pytest.mark.parametrize(
    ("text", "reason", "named"),
    [
        (b"garbage", Reason.BAD_LINE, "garbage"),
        (TRADE, Reason.BAD_LINE, "stream"),
        (b"%d" % NS, Reason.BAD_LINE, str(NS)),
        (b"%d " % NS, Reason.BAD_LINE, str(NS)),
        (b"1723161255.03 " + TRADE, Reason.BAD_LINE, "1723161255.03"),
        (b"+%d " % NS + TRADE, Reason.BAD_LINE, "+1723"),
        ("１７２３ ".encode() + TRADE, Reason.BAD_LINE, "xef"),
        (b"\xef\xbb\xbf%d " % NS + TRADE, Reason.BAD_LINE, "xef"),
        (b"9" * 5_000 + b" " + TRADE, Reason.BAD_LINE, "9999"),
        (b"\x00" * 300, Reason.BAD_LINE, "x00"),
        (b"-%d " % NS + TRADE, Reason.NEGATIVE_TIME, f"-{NS}"),
        (b"-1 " + TRADE, Reason.NEGATIVE_TIME, "-1"),
        (b"0 " + TRADE, Reason.IMPOSSIBLE_TIME, "was 0"),
        (b"%d " % (NS // 10) + TRADE, Reason.IMPOSSIBLE_TIME, str(NS // 10)),
        (b"1723161255030 " + TRADE, Reason.IMPOSSIBLE_TIME, "1723161255030"),
        (b"9%d " % (NS % 10**18) + TRADE, Reason.IMPOSSIBLE_TIME, "9723"),
        (b"5%d " % (NS % 10**18) + TRADE, Reason.IMPOSSIBLE_TIME, "5723"),
    ],
)  # fmt: skip
def test_a_line_that_is_none_is_refused_alone_and_kept(tmp_path: Path, text: bytes, reason: Reason, named: str) -> None:
    before, damaged, after = read(tmp_path / "r", line(TRADE) + text + b"\n" + line(TRADE))
    assert (before, after) == (Line(NS, TRADE), Line(NS, TRADE))
    assert damaged.rejected is not None
    assert damaged.rejected.reason is reason
    assert named in damaged.rejected.detail
    assert len(damaged.rejected.detail) < 300
    assert text.endswith(damaged.raw)


@settings(max_examples=50)
@given(st.binary(max_size=400))
def test_no_file_however_random_stops_the_reader(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "random"
    for kind in (content, gzip.compress(content), gzip.compress(content)[: len(content) // 2 + 3]):
        assert all(entry.rejected or entry.recv_ns > 0 for entry in read(path, kind))


def head_of(path: Path, content: bytes) -> str:
    """Return the one sentence that says why a recording cannot be used."""
    path.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        read_head(path)
    sentence = str(caught.value)
    assert str(path) in sentence
    assert "\n" not in sentence
    assert len(sentence) < len(str(path)) + 300
    return sentence


def test_a_recording_says_its_symbol_its_increments_and_when_it_begins(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_bytes(b"garbage\n" + line(TRADE, NS) + line(SNAPSHOT, NS + 1))
    head = read_head(path)
    assert head.first_recv_ns == NS
    assert head.definition.id.symbol == "btc-usdt-perp"
    assert head.definition.venue_symbol == "BTCUSDT"
    assert (head.definition.price_increment, head.definition.size_increment) == ("0.10", "0.001")


def test_frames_of_another_venue_between_its_own_do_not_make_a_recording_anothers(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_bytes(line(TRADE) + line(HYPERLIQUID) + line(SPOT) + line(SNAPSHOT))
    assert read_head(path).definition.id.venue == "binance_usdm"


def test_the_simulated_market_is_labelled_simulated(tmp_path: Path) -> None:
    path = tmp_path / "sim.gz"
    write_recording(SimulatedMarketConfig(seed=1, duration_s=1.0), path)
    head = read_head(path)
    assert head.definition.id.venue == "sim"
    assert (head.definition.price_increment, head.definition.size_increment) == ("0.10", "0.001")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is empty"),
        (b"\n\n", "it is empty"),
        (gzip.compress(b"", mtime=0), "it is empty"),
        (b"garbage\n", "bad_line: line began with b'garbage'"),
        (b"\x1f\x8b", "truncated_gzip"),
        (line(b"{}"), "unknown_stream"),
        (line(TRADE, NS // 1_000_000), "impossible_time: receive time was 1723161255030"),
        (line(HYPERLIQUID), "it looks like Hyperliquid"),
    ],
)
def test_a_recording_without_a_frame_of_this_venue_is_refused_in_one_sentence(
    tmp_path: Path, content: bytes, why: str
) -> None:
    sentence = head_of(tmp_path / "r", content)
    assert f"has no frame of {', '.join(ADAPTERS)}, the venues read here" in sentence
    assert why in sentence


def test_a_recording_of_a_venue_whose_frames_name_no_symbol_is_refused_for_that(tmp_path: Path) -> None:
    for content in (line(SNAPSHOT), b"garbage\n" + line(SNAPSHOT) * 3):
        sentence = head_of(tmp_path / "r", content)
        assert "is of binance_usdm, but no frame in its first lines names the symbol" in sentence


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (line(TRADE), "there is none in its first lines"),
        (line(TRADE) * HEAD_LINES + line(SNAPSHOT), "there is none in its first lines"),
        (line(TRADE) + line(b'{"lastUpdateId":1,"E":1,"bids":[],"asks":[]}'), "none"),
        (line(TRADE) + line(SNAPSHOT.replace(b"2.909", b"two")), "its snapshot is damaged"),
        (line(TRADE) + line(SNAPSHOT.replace(b"2.909", b"NaN")), "its snapshot is damaged"),
        (line(TRADE) + line(b'{"lastUpdateId":1,"E":1,"bids":[["1.0","0"]],"asks":[["2.0","0"]]}'), "damaged"),
    ],
)
def test_a_recording_without_a_usable_snapshot_is_refused_in_one_sentence(
    tmp_path: Path, content: bytes, why: str
) -> None:
    sentence = head_of(tmp_path / "r", content)
    assert "needs an order book snapshot to begin with" in sentence
    assert why in sentence


def test_a_symbol_without_a_known_quote_asset_is_refused_in_one_sentence(tmp_path: Path) -> None:
    sentence = head_of(tmp_path / "r", line(TRADE.replace(b'"BTCUSDT"', b'"BTCEUR"')) + line(SNAPSHOT))
    assert "'BTCEUR': no known quote asset" in sentence


def test_a_file_that_cannot_be_read_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nothing cannot be read: No such file"):
        read_head(tmp_path / "nothing")
    with pytest.raises(BadInput, match="cannot be read: it is no regular file"):
        read_head(tmp_path)
    with pytest.raises(BadInput, match="cannot be read: File name too long"):
        read_head(tmp_path / ("r" * 300))


def test_a_real_recording_of_another_venue_is_refused_by_that_venues_name() -> None:
    path = SHARED / "hyperliquid_btc_20250126.jsonl.gz"
    if not path.exists():
        pytest.skip(f"needs {path}")
    with pytest.raises(BadInput, match=r"hyperliquid_btc_20250126.* has no frame of .*: it looks like Hyperliquid$"):
        read_head(path)


@pytest.mark.parametrize(
    ("name", "instrument", "increments"),
    [
        ("binance_spot_btcusdt_20240808", "binance_spot.btc-usdt", ("0.01", "0.00001")),
        ("binance_cm_btcusd_perp_20240808", "binance_coinm.btc-usd-perp", ("0.1", "1")),
    ],
)
def test_a_real_recording_is_known_by_its_frames(name: str, instrument: str, increments: tuple[str, str]) -> None:
    path = SHARED / f"{name}.jsonl.gz"
    if not path.exists():
        pytest.skip(f"needs {path}")
    definition = read_head(path).definition
    assert instrument_key(definition.id) == instrument
    assert tuple(Decimal(text) for text in (definition.price_increment, definition.size_increment)) == tuple(
        Decimal(text) for text in increments
    )


def test_the_increments_of_the_real_recording_are_those_of_the_venue() -> None:
    path = SHARED / "binance_usdm_btcusdt_20240808.jsonl.gz"
    if not path.exists():
        pytest.skip(f"needs {path}")
    head = read_head(path)
    assert (head.definition.price_increment, head.definition.size_increment) == ("0.10", "0.001")
    assert head.first_recv_ns == NS


def test_a_recording_feed_plays_every_line_and_then_ends(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_bytes(line(TRADE, NS) + b"garbage\n" + line(SNAPSHOT, NS + 1))

    async def main(_: object) -> list[Line | None]:
        feed = RecordingFeed(path)
        await feed.request_snapshot()
        return [await feed.next_line() for _ in range(4)]

    first, damaged, last, end = run_virtual(main, start_ns=NS)
    assert (first, last, end) == (Line(NS, TRADE), Line(NS + 1, SNAPSHOT), None)
    assert damaged is not None
    assert damaged.rejected is not None
    assert json.loads(TRADE)["data"]["s"] == RecordingFeed(path).definition.venue_symbol
