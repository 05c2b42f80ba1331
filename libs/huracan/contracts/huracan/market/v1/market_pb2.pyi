from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class InstrumentType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INSTRUMENT_TYPE_UNSPECIFIED: _ClassVar[InstrumentType]
    INSTRUMENT_TYPE_SPOT: _ClassVar[InstrumentType]
    INSTRUMENT_TYPE_LINEAR_PERPETUAL: _ClassVar[InstrumentType]
    INSTRUMENT_TYPE_INVERSE_PERPETUAL: _ClassVar[InstrumentType]
    INSTRUMENT_TYPE_LINEAR_FUTURE: _ClassVar[InstrumentType]
    INSTRUMENT_TYPE_INVERSE_FUTURE: _ClassVar[InstrumentType]
    INSTRUMENT_TYPE_OPTION: _ClassVar[InstrumentType]

class TickKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TICK_KIND_UNSPECIFIED: _ClassVar[TickKind]
    TICK_KIND_TRADE: _ClassVar[TickKind]
    TICK_KIND_QUOTE: _ClassVar[TickKind]
    TICK_KIND_DEPTH: _ClassVar[TickKind]
    TICK_KIND_SNAPSHOT: _ClassVar[TickKind]
    TICK_KIND_MARK: _ClassVar[TickKind]
    TICK_KIND_INDEX: _ClassVar[TickKind]
    TICK_KIND_FUNDING: _ClassVar[TickKind]
    TICK_KIND_LIQUIDATION: _ClassVar[TickKind]

class AnomalyKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ANOMALY_KIND_UNSPECIFIED: _ClassVar[AnomalyKind]
    ANOMALY_KIND_PRICE_JUMP: _ClassVar[AnomalyKind]
    ANOMALY_KIND_SPREAD: _ClassVar[AnomalyKind]
    ANOMALY_KIND_VOLUME: _ClassVar[AnomalyKind]
    ANOMALY_KIND_QUOTE_STUFFING: _ClassVar[AnomalyKind]
    ANOMALY_KIND_FEED_SILENCE: _ClassVar[AnomalyKind]
    ANOMALY_KIND_BOOK_DESYNC: _ClassVar[AnomalyKind]
    ANOMALY_KIND_VENUE_DIVERGENCE: _ClassVar[AnomalyKind]

class AnomalyPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ANOMALY_POLICY_UNSPECIFIED: _ClassVar[AnomalyPolicy]
    ANOMALY_POLICY_TAG: _ClassVar[AnomalyPolicy]
    ANOMALY_POLICY_HOLD: _ClassVar[AnomalyPolicy]
    ANOMALY_POLICY_DROP: _ClassVar[AnomalyPolicy]
INSTRUMENT_TYPE_UNSPECIFIED: InstrumentType
INSTRUMENT_TYPE_SPOT: InstrumentType
INSTRUMENT_TYPE_LINEAR_PERPETUAL: InstrumentType
INSTRUMENT_TYPE_INVERSE_PERPETUAL: InstrumentType
INSTRUMENT_TYPE_LINEAR_FUTURE: InstrumentType
INSTRUMENT_TYPE_INVERSE_FUTURE: InstrumentType
INSTRUMENT_TYPE_OPTION: InstrumentType
TICK_KIND_UNSPECIFIED: TickKind
TICK_KIND_TRADE: TickKind
TICK_KIND_QUOTE: TickKind
TICK_KIND_DEPTH: TickKind
TICK_KIND_SNAPSHOT: TickKind
TICK_KIND_MARK: TickKind
TICK_KIND_INDEX: TickKind
TICK_KIND_FUNDING: TickKind
TICK_KIND_LIQUIDATION: TickKind
ANOMALY_KIND_UNSPECIFIED: AnomalyKind
ANOMALY_KIND_PRICE_JUMP: AnomalyKind
ANOMALY_KIND_SPREAD: AnomalyKind
ANOMALY_KIND_VOLUME: AnomalyKind
ANOMALY_KIND_QUOTE_STUFFING: AnomalyKind
ANOMALY_KIND_FEED_SILENCE: AnomalyKind
ANOMALY_KIND_BOOK_DESYNC: AnomalyKind
ANOMALY_KIND_VENUE_DIVERGENCE: AnomalyKind
ANOMALY_POLICY_UNSPECIFIED: AnomalyPolicy
ANOMALY_POLICY_TAG: AnomalyPolicy
ANOMALY_POLICY_HOLD: AnomalyPolicy
ANOMALY_POLICY_DROP: AnomalyPolicy

class InstrumentId(_message.Message):
    __slots__ = ("venue", "symbol", "definition_version")
    VENUE_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    DEFINITION_VERSION_FIELD_NUMBER: _ClassVar[int]
    venue: str
    symbol: str
    definition_version: int
    def __init__(self, venue: _Optional[str] = ..., symbol: _Optional[str] = ..., definition_version: _Optional[int] = ...) -> None: ...

class InstrumentDefinition(_message.Message):
    __slots__ = ("id", "venue_symbol", "type", "base", "quote", "settle", "underlying", "shard", "price_increment", "size_increment", "multiplier", "valid_from_ns", "expiry_ns", "strike")
    ID_FIELD_NUMBER: _ClassVar[int]
    VENUE_SYMBOL_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    QUOTE_FIELD_NUMBER: _ClassVar[int]
    SETTLE_FIELD_NUMBER: _ClassVar[int]
    UNDERLYING_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    PRICE_INCREMENT_FIELD_NUMBER: _ClassVar[int]
    SIZE_INCREMENT_FIELD_NUMBER: _ClassVar[int]
    MULTIPLIER_FIELD_NUMBER: _ClassVar[int]
    VALID_FROM_NS_FIELD_NUMBER: _ClassVar[int]
    EXPIRY_NS_FIELD_NUMBER: _ClassVar[int]
    STRIKE_FIELD_NUMBER: _ClassVar[int]
    id: InstrumentId
    venue_symbol: str
    type: InstrumentType
    base: str
    quote: str
    settle: str
    underlying: str
    shard: int
    price_increment: str
    size_increment: str
    multiplier: str
    valid_from_ns: int
    expiry_ns: int
    strike: str
    def __init__(self, id: _Optional[_Union[InstrumentId, _Mapping]] = ..., venue_symbol: _Optional[str] = ..., type: _Optional[_Union[InstrumentType, str]] = ..., base: _Optional[str] = ..., quote: _Optional[str] = ..., settle: _Optional[str] = ..., underlying: _Optional[str] = ..., shard: _Optional[int] = ..., price_increment: _Optional[str] = ..., size_increment: _Optional[str] = ..., multiplier: _Optional[str] = ..., valid_from_ns: _Optional[int] = ..., expiry_ns: _Optional[int] = ..., strike: _Optional[str] = ...) -> None: ...

class TickBatch(_message.Message):
    __slots__ = ("instrument", "epoch", "batch", "rows", "ingest_seq", "event_ns", "recv_ns", "venue_seq", "kind", "flags", "side", "price", "size", "watermark_ns")
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    INGEST_SEQ_FIELD_NUMBER: _ClassVar[int]
    EVENT_NS_FIELD_NUMBER: _ClassVar[int]
    RECV_NS_FIELD_NUMBER: _ClassVar[int]
    VENUE_SEQ_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    WATERMARK_NS_FIELD_NUMBER: _ClassVar[int]
    instrument: InstrumentDefinition
    epoch: int
    batch: int
    rows: int
    ingest_seq: bytes
    event_ns: bytes
    recv_ns: bytes
    venue_seq: bytes
    kind: bytes
    flags: bytes
    side: bytes
    price: bytes
    size: bytes
    watermark_ns: int
    def __init__(self, instrument: _Optional[_Union[InstrumentDefinition, _Mapping]] = ..., epoch: _Optional[int] = ..., batch: _Optional[int] = ..., rows: _Optional[int] = ..., ingest_seq: _Optional[bytes] = ..., event_ns: _Optional[bytes] = ..., recv_ns: _Optional[bytes] = ..., venue_seq: _Optional[bytes] = ..., kind: _Optional[bytes] = ..., flags: _Optional[bytes] = ..., side: _Optional[bytes] = ..., price: _Optional[bytes] = ..., size: _Optional[bytes] = ..., watermark_ns: _Optional[int] = ...) -> None: ...

class Bar(_message.Message):
    __slots__ = ("instrument", "interval_ns", "open_ns", "open", "high", "low", "close", "volume", "trades", "partial")
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_NS_FIELD_NUMBER: _ClassVar[int]
    OPEN_NS_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    TRADES_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    instrument: InstrumentId
    interval_ns: int
    open_ns: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    trades: int
    partial: bool
    def __init__(self, instrument: _Optional[_Union[InstrumentId, _Mapping]] = ..., interval_ns: _Optional[int] = ..., open_ns: _Optional[int] = ..., open: _Optional[str] = ..., high: _Optional[str] = ..., low: _Optional[str] = ..., close: _Optional[str] = ..., volume: _Optional[str] = ..., trades: _Optional[int] = ..., partial: _Optional[bool] = ...) -> None: ...

class NewsItem(_message.Message):
    __slots__ = ("news_id", "source", "published_ns", "title", "underlyings")
    NEWS_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_NS_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    UNDERLYINGS_FIELD_NUMBER: _ClassVar[int]
    news_id: bytes
    source: str
    published_ns: int
    title: str
    underlyings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, news_id: _Optional[bytes] = ..., source: _Optional[str] = ..., published_ns: _Optional[int] = ..., title: _Optional[str] = ..., underlyings: _Optional[_Iterable[str]] = ...) -> None: ...

class Evidence(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: float
    def __init__(self, name: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...

class Anomaly(_message.Message):
    __slots__ = ("anomaly_id", "instrument", "kind", "policy", "at_ns", "epoch", "ingest_seq", "score", "threshold", "evidence")
    ANOMALY_ID_FIELD_NUMBER: _ClassVar[int]
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    AT_NS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    INGEST_SEQ_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    anomaly_id: bytes
    instrument: InstrumentId
    kind: AnomalyKind
    policy: AnomalyPolicy
    at_ns: int
    epoch: int
    ingest_seq: int
    score: float
    threshold: float
    evidence: _containers.RepeatedCompositeFieldContainer[Evidence]
    def __init__(self, anomaly_id: _Optional[bytes] = ..., instrument: _Optional[_Union[InstrumentId, _Mapping]] = ..., kind: _Optional[_Union[AnomalyKind, str]] = ..., policy: _Optional[_Union[AnomalyPolicy, str]] = ..., at_ns: _Optional[int] = ..., epoch: _Optional[int] = ..., ingest_seq: _Optional[int] = ..., score: _Optional[float] = ..., threshold: _Optional[float] = ..., evidence: _Optional[_Iterable[_Union[Evidence, _Mapping]]] = ...) -> None: ...

class ReliabilityPart(_message.Message):
    __slots__ = ("name", "value", "limit", "weight")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: float
    limit: float
    weight: float
    def __init__(self, name: _Optional[str] = ..., value: _Optional[float] = ..., limit: _Optional[float] = ..., weight: _Optional[float] = ...) -> None: ...

class Reliability(_message.Message):
    __slots__ = ("instrument", "hour_ns", "epoch", "score", "parts", "from_ns", "to_ns", "frames")
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    HOUR_NS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    FROM_NS_FIELD_NUMBER: _ClassVar[int]
    TO_NS_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    instrument: InstrumentId
    hour_ns: int
    epoch: int
    score: float
    parts: _containers.RepeatedCompositeFieldContainer[ReliabilityPart]
    from_ns: int
    to_ns: int
    frames: int
    def __init__(self, instrument: _Optional[_Union[InstrumentId, _Mapping]] = ..., hour_ns: _Optional[int] = ..., epoch: _Optional[int] = ..., score: _Optional[float] = ..., parts: _Optional[_Iterable[_Union[ReliabilityPart, _Mapping]]] = ..., from_ns: _Optional[int] = ..., to_ns: _Optional[int] = ..., frames: _Optional[int] = ...) -> None: ...
