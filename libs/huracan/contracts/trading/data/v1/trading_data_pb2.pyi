from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SignalDirection(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HOLD: _ClassVar[SignalDirection]
    BUY: _ClassVar[SignalDirection]
    SELL: _ClassVar[SignalDirection]
HOLD: SignalDirection
BUY: SignalDirection
SELL: SignalDirection

class MarketData(_message.Message):
    __slots__ = ("symbol", "timestamp", "price", "volume", "bid_price", "ask_price", "bids", "asks")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    BID_PRICE_FIELD_NUMBER: _ClassVar[int]
    ASK_PRICE_FIELD_NUMBER: _ClassVar[int]
    BIDS_FIELD_NUMBER: _ClassVar[int]
    ASKS_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    timestamp: int
    price: float
    volume: float
    bid_price: float
    ask_price: float
    bids: _containers.RepeatedCompositeFieldContainer[OrderBookLevel]
    asks: _containers.RepeatedCompositeFieldContainer[OrderBookLevel]
    def __init__(self, symbol: _Optional[str] = ..., timestamp: _Optional[int] = ..., price: _Optional[float] = ..., volume: _Optional[float] = ..., bid_price: _Optional[float] = ..., ask_price: _Optional[float] = ..., bids: _Optional[_Iterable[_Union[OrderBookLevel, _Mapping]]] = ..., asks: _Optional[_Iterable[_Union[OrderBookLevel, _Mapping]]] = ...) -> None: ...

class OrderBookLevel(_message.Message):
    __slots__ = ("price", "quantity")
    PRICE_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    price: float
    quantity: float
    def __init__(self, price: _Optional[float] = ..., quantity: _Optional[float] = ...) -> None: ...

class TradingSignal(_message.Message):
    __slots__ = ("symbol", "timestamp", "direction", "confidence", "position_size", "regime_probs")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    POSITION_SIZE_FIELD_NUMBER: _ClassVar[int]
    REGIME_PROBS_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    timestamp: int
    direction: SignalDirection
    confidence: float
    position_size: float
    regime_probs: _containers.RepeatedCompositeFieldContainer[RegimeProbability]
    def __init__(self, symbol: _Optional[str] = ..., timestamp: _Optional[int] = ..., direction: _Optional[_Union[SignalDirection, str]] = ..., confidence: _Optional[float] = ..., position_size: _Optional[float] = ..., regime_probs: _Optional[_Iterable[_Union[RegimeProbability, _Mapping]]] = ...) -> None: ...

class RegimeProbability(_message.Message):
    __slots__ = ("regime", "probability")
    REGIME_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    regime: str
    probability: float
    def __init__(self, regime: _Optional[str] = ..., probability: _Optional[float] = ...) -> None: ...
