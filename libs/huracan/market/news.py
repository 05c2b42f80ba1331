"""Headlines from files: what a feed or a data provider left behind, checked before it is used."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from huracan.contracts.market import NewsItem, news_item
from huracan.errors import BadInput

_TIME = ("date", "time", "published_at")
_TITLE = ("title", "headline")
_UNDERLYINGS = ("symbols", "underlyings")
_SOURCE = ("source",)
_EVERYTHING = "ALL"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST_NS = 946_684_800 * 10**9
_LATEST_NS = 4_102_444_800 * 10**9
_UNITS = ((10**11, 10**9), (10**14, 10**6), (10**17, 10**3), (10**20, 1))
_NUMBER = re.compile(r"\d+(\.\d+)?")
_UNDERLYING = re.compile(r"[A-Z0-9]{1,20}")
_SEPARATOR = re.compile(r"[\s,;|]+")


def load_news(path: Path) -> list[NewsItem]:
    """Return the headlines of a file, oldest first; equally old ones in the order of the file.

    The file is CSV (`.csv`) or one JSON object a line (`.jsonl`, `.ndjson`), also with `.gz`. Columns, in any
    case: `date`, `time` or `published_at` (ISO text with a time of day, UTC unless it says otherwise, or
    seconds, milliseconds, microseconds or nanoseconds since the epoch), `title` or `headline`, and if it
    likes `source` (else the file's name) and `symbols` or `underlyings` (`BTC ETH`, or a JSON list; none or
    `all` concerns all). Other columns are ignored. Raises BadInput that names file, row (counted from 1 after
    the header), field and reason.
    """
    default_source = path.name.split(".")[0]
    items = [_item(row, f"{path.name} row {number}", default_source) for number, row in _rows(path)]
    return sorted(items, key=lambda item: item.published_ns)


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    kind = "".join(path.suffixes).lower().removesuffix(".gz").rpartition(".")[2]
    if kind == "csv":
        return _csv_rows(_text(path), path.name)
    if kind in ("jsonl", "ndjson"):
        return _json_rows(_text(path), path.name)
    raise BadInput(f"{path.name} is neither .csv nor .jsonl, plain or .gz")


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        if path.suffix.lower() == ".gz":
            data = gzip.decompress(data)
        return data.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path.name} is not UTF-8: byte {error.start}") from error


def _csv_rows(text: str, name: str) -> Iterator[tuple[int, Mapping[str, object]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    number = 0
    try:
        header = _header(next(reader, []), name)
        for cells in reader:
            if not cells:
                continue
            number += 1
            if len(cells) != len(header):
                raise BadInput(f"{name} row {number}: {len(cells)} fields were given, the header has {len(header)}")
            yield number, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise BadInput(f"{name} row {number + 1} is not CSV: {error}") from error


def _header(cells: list[str], name: str) -> list[str]:
    header = [cell.strip().lower() for cell in cells]
    if not header:
        raise BadInput(f"{name} has no header")
    twice = {column for column in header if header.count(column) > 1}
    if twice:
        raise BadInput(f"{name} has two columns {min(twice)}")
    for aliases in (_TIME, _TITLE):
        if not set(aliases) & set(header):
            raise BadInput(f"{name} has no column {' or '.join(aliases)}; it has {', '.join(header)}")
    return header


def _json_rows(text: str, name: str) -> Iterator[tuple[int, Mapping[str, object]]]:
    lines = [line for line in text.split("\n") if line.strip()]
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line, parse_float=Decimal)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{name} row {number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise BadInput(f"{name} row {number} is not a JSON object")
        yield number, {key.strip().lower(): value for key, value in row.items()}


def _item(row: Mapping[str, object], where: str, default_source: str) -> NewsItem:
    time_field, time = _value(row, _TIME, where)
    title_field, title = _value(row, _TITLE, where)
    if time is None or title is None:
        aliases, was = (_TIME, "time") if time is None else (_TITLE, "title")
        raise BadInput(f"{where}: {' or '.join(aliases)} was empty: a headline needs a {was}")
    source_field, source = _value(row, _SOURCE, where)
    underlyings_field, underlyings = _value(row, _UNDERLYINGS, where)
    return news_item(
        source=default_source if source is None else _string(source, source_field, where),
        published_ns=_nanoseconds(time, time_field, where),
        title=_string(title, title_field, where),
        underlyings=_underlyings(underlyings, underlyings_field, where),
    )


def _value(row: Mapping[str, object], aliases: tuple[str, ...], where: str) -> tuple[str, object]:
    """Return name and value of the one alias that is there; None for an absent, empty or null one."""
    present = [alias for alias in aliases if alias in row]
    if len(present) > 1:
        raise BadInput(f"{where}: {' and '.join(present)} were both given; keep one")
    if not present:
        return aliases[0], None
    value = row[present[0]]
    return present[0], None if isinstance(value, str) and not value.strip() else value


def _string(value: object, field: str, where: str) -> str:
    if not isinstance(value, str):
        raise BadInput(f"{where}: {field} was {value!r}, not text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise BadInput(f"{where}: {field} is not Unicode text: {error.reason}") from error
    return " ".join(value.split())


def _nanoseconds(value: object, field: str, where: str) -> int:
    text = str(value).strip()
    numeric = isinstance(value, int | Decimal) and not isinstance(value, bool)
    if not numeric and not isinstance(value, str):
        raise BadInput(f"{where}: {field} was {value!r}, neither ISO text nor a number")
    published_ns = _epoch_ns(text) if _NUMBER.fullmatch(text) else _iso_ns(text, f"{where}: {field}")
    if published_ns is None or not _EARLIEST_NS <= published_ns < _LATEST_NS:
        raise BadInput(f"{where}: {field} was {text!r}, not a time between 2000 and 2100")
    return published_ns


def _epoch_ns(text: str) -> int | None:
    number = Decimal(text)
    return next((int(number * unit) for bound, unit in _UNITS if number < bound), None)


def _iso_ns(text: str, where: str) -> int:
    try:
        date.fromisoformat(text)
    except ValueError:
        pass
    else:
        raise BadInput(f"{where} was {text!r}, without a time of day: when it was known cannot be told")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadInput(f"{where} was {text!r}, not an ISO time") from error
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    return since // timedelta(microseconds=1) * 1000


def _underlyings(value: object, field: str, where: str) -> list[str]:
    given = _SEPARATOR.split(value.strip()) if isinstance(value, str) else [] if value is None else value
    if not isinstance(given, list):
        raise BadInput(f"{where}: {field} was {value!r}, neither text nor a list")
    named = [str(each).upper() for each in given]
    for each in named:
        if not _UNDERLYING.fullmatch(each):
            raise BadInput(f"{where}: {field} was {each!r}, not the letters and digits of an underlying")
    return [] if _EVERYTHING in named else list(dict.fromkeys(named))
