"""Headlines from files: what is given is read exactly; what cannot be used is refused with its place and
reason."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from huracan.contracts.market import NewsItem
from huracan.errors import BadInput
from huracan.market.news import load_news

AT_NS = 1_702_968_041_000_000_000
AT_ISO = "2023-12-19 06:40:41"

Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def _write(name: str, text: str | bytes) -> Path:
        path = tmp_path / name
        data = text.encode() if isinstance(text, str) else text
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return _write


def _only(items: list[NewsItem]) -> NewsItem:
    (item,) = items
    return item


@pytest.mark.parametrize("name", ["feed.csv", "feed.csv.gz"])
def test_a_csv_is_read_with_all_its_fields(write: Write, name: str) -> None:
    path = write(name, f'Date,sentiment,source,title,symbols\n{AT_ISO},x,Desk,"Coin  up, again",btc eth\n')
    item = _only(load_news(path))
    assert (item.published_ns, item.source, item.title) == (AT_NS, "Desk", "Coin up, again")
    assert list(item.underlyings) == ["BTC", "ETH"]
    assert len(item.news_id) == 16


@pytest.mark.parametrize("name", ["feed.jsonl", "feed.jsonl.gz", "feed.ndjson"])
def test_json_lines_are_read_with_all_their_fields(write: Write, name: str) -> None:
    row = {"published_at": AT_NS // 10**6, "headline": "Up", "source": "Desk", "underlyings": ["BTC", "btc"]}
    item = _only(load_news(write(name, json.dumps(row) + "\n\n")))
    assert (item.published_ns, item.source, item.title) == (AT_NS, "Desk", "Up")
    assert list(item.underlyings) == ["BTC"]


@pytest.mark.parametrize(
    ("time", "published_ns"),
    [
        (AT_ISO, AT_NS),
        ("2023-12-19T06:40:41Z", AT_NS),
        ("2023-12-19T08:40:41.5+02:00", AT_NS + 500_000_000),
        ("1702968041", AT_NS),
        ("1702968041.25", AT_NS + 250_000_000),
        ("1702968041000", AT_NS),
        ("1702968041000000", AT_NS),
        ("1702968041000000001", AT_NS + 1),
    ],
)
def test_times_are_read_exactly_in_any_usual_unit(write: Write, time: str, published_ns: int) -> None:
    assert _only(load_news(write("n.csv", f"time,title\n{time},Up\n"))).published_ns == published_ns


def test_headlines_come_oldest_first_whatever_the_order_of_the_file(write: Write) -> None:
    items = load_news(write("n.csv", "time,title\n1702968043,c\n1702968041,a\n1702968043,d\n1702968042,b\n"))
    assert [item.title for item in items] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("symbols", ["", "all", "BTC;ALL"])
def test_a_headline_about_all_names_no_underlying(write: Write, symbols: str) -> None:
    assert list(_only(load_news(write("n.csv", f"time,title,symbols\n{AT_ISO},Up,{symbols}\n"))).underlyings) == []


def test_without_a_source_the_file_is_the_source(write: Write) -> None:
    assert _only(load_news(write("desk_notes.csv.gz", f"time,title\n{AT_ISO},Up\n"))).source == "desk_notes"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("n.txt", "x", "n.txt is neither .csv nor .jsonl"),
        ("n.csv", "", "n.csv has no header"),
        ("n.csv", "day,title\n1,2\n", "n.csv has no column date or time or published_at; it has day, title"),
        ("n.csv", "time,text\n1,2\n", "n.csv has no column title or headline; it has time, text"),
        ("n.csv", "time,title,title\n1,2,3\n", "n.csv has two columns title"),
        (
            "n.csv",
            f"time,title\n{AT_ISO},Up\n{AT_ISO}\n",
            "n.csv row 2: 1 fields were given, the header has 2",
        ),
        ("n.csv", f"date,time,title\n{AT_ISO},06:40,Up\n", "n.csv row 1: date and time were both given"),
        ("n.csv", f"time,title\n{AT_ISO},\n", "n.csv row 1: title or headline was empty"),
        ("n.csv", "time,title\n,Up\n", "n.csv row 1: date or time or published_at was empty"),
        ("n.csv", "time,title\nyesterday,Up\n", "n.csv row 1: time was 'yesterday', not an ISO time"),
        ("n.csv", "time,title\n2023-12-19,Up\n", "n.csv row 1: time was '2023-12-19', without a time of day"),
        ("n.csv", "time,title\n12,Up\n", "n.csv row 1: time was '12', not a time between 2000 and 2100"),
        ("n.csv", f"time,title\n{'9' * 30},Up\n", "not a time between 2000 and 2100"),
        ("n.csv", "time,title\n1850-01-01 00:00,Up\n", "not a time between 2000 and 2100"),
        ("n.csv", f"time,title,symbols\n{AT_ISO},Up,B$C\n", "n.csv row 1: symbols was 'B$C'"),
        ("n.csv", f'time,title\n{AT_ISO},"Up\n', "n.csv row 1 is not CSV"),
        ("n.csv", b"time,title\n\xff,Up\n", "n.csv is not UTF-8: byte 11"),
        ("n.jsonl", "{", "n.jsonl row 1 is not JSON"),
        ("n.jsonl", "[]", "n.jsonl row 1 is not a JSON object"),
        ("n.jsonl", '{"time": true, "title": "Up"}', "n.jsonl row 1: time was True"),
        ("n.jsonl", '{"time": NaN, "title": "Up"}', "n.jsonl row 1: time was nan"),
        ("n.jsonl", '{"time": 1702968041, "title": 7}', "n.jsonl row 1: title was 7, not text"),
        ("n.jsonl", '{"time": 1702968041, "title": "\\ud800"}', "n.jsonl row 1: title is not Unicode text"),
        ("n.jsonl", '{"time": 1702968041, "title": "Up", "symbols": 7}', "n.jsonl row 1: symbols was 7"),
        (
            "n.jsonl",
            '{"time": 1702968041, "title": "Up", "source": 7}',
            "n.jsonl row 1: source was 7, not text",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_place_and_reason(
    write: Write, name: str, text: str | bytes, says: str
) -> None:
    with pytest.raises(BadInput) as refused:
        load_news(write(name, text))
    assert says in str(refused.value)


def test_a_missing_or_broken_file_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "n.csv.gz"
    broken.write_bytes(gzip.compress(b"time,title\n")[:-6])
    for path in (tmp_path / "none.csv", broken):
        with pytest.raises(BadInput, match="cannot be read"):
            load_news(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.binary(max_size=200), kind=st.sampled_from([".csv", ".jsonl", ".csv.gz"]), head=st.booleans())
def test_no_file_however_damaged_raises_anything_but_bad_input(
    tmp_path: Path, data: bytes, kind: str, head: bool
) -> None:
    path = tmp_path / f"news{kind}"
    path.write_bytes((b"time,title\n" if head else b"") + data)
    with suppress(BadInput):
        load_news(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(time=st.one_of(st.text(max_size=30), st.integers(), st.floats(), st.none(), st.datetimes().map(str)))
def test_no_time_however_odd_raises_anything_but_bad_input(tmp_path: Path, time: str | float | None) -> None:
    path = tmp_path / "news.jsonl"
    path.write_text(json.dumps({"time": time, "title": "Up"}))
    with suppress(BadInput):
        (item,) = load_news(path)
        assert 946_684_800 * 10**9 <= item.published_ns < 4_102_444_800 * 10**9
