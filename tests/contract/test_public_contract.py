"""`trading.data.v1` is fixed: names, numbers and types are what desks have compiled against."""

from __future__ import annotations

from google.protobuf.descriptor import FieldDescriptor

from huracan.contracts.trading.data.v1 import trading_data_pb2

FILE = trading_data_pb2.DESCRIPTOR
TYPES = {
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_DOUBLE: "double",
}
MESSAGES = {
    "MarketData": [
        (1, "symbol", "string"),
        (2, "timestamp", "int64"),
        (3, "price", "double"),
        (4, "volume", "double"),
        (5, "bid_price", "double"),
        (6, "ask_price", "double"),
        (7, "bids", "repeated trading.data.v1.OrderBookLevel"),
        (8, "asks", "repeated trading.data.v1.OrderBookLevel"),
    ],
    "OrderBookLevel": [(1, "price", "double"), (2, "quantity", "double")],
    "TradingSignal": [
        (1, "symbol", "string"),
        (2, "timestamp", "int64"),
        (3, "direction", "trading.data.v1.SignalDirection"),
        (4, "confidence", "double"),
        (5, "position_size", "double"),
        (6, "regime_probs", "repeated trading.data.v1.RegimeProbability"),
    ],
    "RegimeProbability": [(1, "regime", "string"), (2, "probability", "double")],
}


def _type(field: FieldDescriptor) -> str:
    named = field.message_type or field.enum_type
    name = named.full_name if named is not None else TYPES[field.type]
    return f"repeated {name}" if field.is_repeated else name


def test_the_public_messages_are_exactly_as_fixed() -> None:
    found = {
        name: [(field.number, field.name, _type(field)) for field in kind.fields_by_number.values()]
        for name, kind in FILE.message_types_by_name.items()
    }
    assert found == MESSAGES


def test_the_public_directions_are_exactly_as_fixed() -> None:
    assert list(FILE.enum_types_by_name) == ["SignalDirection"]
    values = FILE.enum_types_by_name["SignalDirection"].values_by_name
    assert {name: value.number for name, value in values.items()} == {"HOLD": 0, "BUY": 1, "SELL": 2}


def test_the_public_package_keeps_its_name_and_has_no_optional_fields() -> None:
    assert FILE.package == "trading.data.v1"
    assert not any(kind.oneofs for kind in FILE.message_types_by_name.values())


def test_a_hand_written_signal_is_read() -> None:
    """Tag bytes by hand: a desk with another Protobuf library writes these."""
    data = b"\x0a\x03btc\x10\x07\x18\x02\x21" + bytes(7) + b"\x40" + b"\x32\x02\x0a\x00"
    signal = trading_data_pb2.TradingSignal.FromString(data)
    assert (signal.symbol, signal.timestamp, signal.direction, signal.confidence) == ("btc", 7, 2, 2.0)
    assert len(signal.regime_probs) == 1
