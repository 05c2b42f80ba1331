from huracan.contracts.huracan.context.v1 import context_pb2 as _context_pb2
from huracan.contracts.huracan.market.v1 import market_pb2 as _market_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FeatureRow(_message.Message):
    __slots__ = ("instrument", "shard", "epoch", "feature_set", "feature_set_digest", "step", "close_ns", "first_ingest_seq", "last_ingest_seq", "values")
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    FEATURE_SET_FIELD_NUMBER: _ClassVar[int]
    FEATURE_SET_DIGEST_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    CLOSE_NS_FIELD_NUMBER: _ClassVar[int]
    FIRST_INGEST_SEQ_FIELD_NUMBER: _ClassVar[int]
    LAST_INGEST_SEQ_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    instrument: _market_pb2.InstrumentId
    shard: int
    epoch: int
    feature_set: str
    feature_set_digest: bytes
    step: int
    close_ns: int
    first_ingest_seq: int
    last_ingest_seq: int
    values: bytes
    def __init__(self, instrument: _Optional[_Union[_market_pb2.InstrumentId, _Mapping]] = ..., shard: _Optional[int] = ..., epoch: _Optional[int] = ..., feature_set: _Optional[str] = ..., feature_set_digest: _Optional[bytes] = ..., step: _Optional[int] = ..., close_ns: _Optional[int] = ..., first_ingest_seq: _Optional[int] = ..., last_ingest_seq: _Optional[int] = ..., values: _Optional[bytes] = ...) -> None: ...

class FeatureWindow(_message.Message):
    __slots__ = ("instrument", "epoch", "feature_set", "feature_set_digest", "interval_ns", "step", "first_step", "close_ns", "rows", "columns", "valid_rows", "values", "missing", "first_ingest_seq", "last_ingest_seq", "last_frame_ns", "book_synced", "best_bid", "best_ask", "expected_contexts", "bar", "frames_digest")
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    FEATURE_SET_FIELD_NUMBER: _ClassVar[int]
    FEATURE_SET_DIGEST_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_NS_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    FIRST_STEP_FIELD_NUMBER: _ClassVar[int]
    CLOSE_NS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    VALID_ROWS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    FIRST_INGEST_SEQ_FIELD_NUMBER: _ClassVar[int]
    LAST_INGEST_SEQ_FIELD_NUMBER: _ClassVar[int]
    LAST_FRAME_NS_FIELD_NUMBER: _ClassVar[int]
    BOOK_SYNCED_FIELD_NUMBER: _ClassVar[int]
    BEST_BID_FIELD_NUMBER: _ClassVar[int]
    BEST_ASK_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_CONTEXTS_FIELD_NUMBER: _ClassVar[int]
    BAR_FIELD_NUMBER: _ClassVar[int]
    FRAMES_DIGEST_FIELD_NUMBER: _ClassVar[int]
    instrument: _market_pb2.InstrumentDefinition
    epoch: int
    feature_set: str
    feature_set_digest: bytes
    interval_ns: int
    step: int
    first_step: int
    close_ns: int
    rows: int
    columns: int
    valid_rows: int
    values: bytes
    missing: bytes
    first_ingest_seq: int
    last_ingest_seq: int
    last_frame_ns: int
    book_synced: bool
    best_bid: int
    best_ask: int
    expected_contexts: _containers.RepeatedCompositeFieldContainer[_context_pb2.ContextRef]
    bar: _market_pb2.Bar
    frames_digest: bytes
    def __init__(self, instrument: _Optional[_Union[_market_pb2.InstrumentDefinition, _Mapping]] = ..., epoch: _Optional[int] = ..., feature_set: _Optional[str] = ..., feature_set_digest: _Optional[bytes] = ..., interval_ns: _Optional[int] = ..., step: _Optional[int] = ..., first_step: _Optional[int] = ..., close_ns: _Optional[int] = ..., rows: _Optional[int] = ..., columns: _Optional[int] = ..., valid_rows: _Optional[int] = ..., values: _Optional[bytes] = ..., missing: _Optional[bytes] = ..., first_ingest_seq: _Optional[int] = ..., last_ingest_seq: _Optional[int] = ..., last_frame_ns: _Optional[int] = ..., book_synced: _Optional[bool] = ..., best_bid: _Optional[int] = ..., best_ask: _Optional[int] = ..., expected_contexts: _Optional[_Iterable[_Union[_context_pb2.ContextRef, _Mapping]]] = ..., bar: _Optional[_Union[_market_pb2.Bar, _Mapping]] = ..., frames_digest: _Optional[bytes] = ...) -> None: ...
