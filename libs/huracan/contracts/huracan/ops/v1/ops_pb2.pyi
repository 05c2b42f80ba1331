from huracan.contracts.huracan.context.v1 import context_pb2 as _context_pb2
from huracan.contracts.huracan.market.v1 import market_pb2 as _market_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FeedState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FEED_STATE_UNSPECIFIED: _ClassVar[FeedState]
    FEED_STATE_CONNECTED: _ClassVar[FeedState]
    FEED_STATE_RECONNECTING: _ClassVar[FeedState]
    FEED_STATE_SILENT: _ClassVar[FeedState]
    FEED_STATE_FALLBACK: _ClassVar[FeedState]
    FEED_STATE_RETURNED: _ClassVar[FeedState]
    FEED_STATE_RATE_LIMITED: _ClassVar[FeedState]
    FEED_STATE_RESYNCING: _ClassVar[FeedState]
    FEED_STATE_RESYNCED: _ClassVar[FeedState]
    FEED_STATE_REFUSED: _ClassVar[FeedState]
    FEED_STATE_REDEFINED: _ClassVar[FeedState]

class EngineAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENGINE_ACTION_UNSPECIFIED: _ClassVar[EngineAction]
    ENGINE_ACTION_LIST: _ClassVar[EngineAction]
    ENGINE_ACTION_OFFER: _ClassVar[EngineAction]
    ENGINE_ACTION_USE: _ClassVar[EngineAction]
    ENGINE_ACTION_SETTLE: _ClassVar[EngineAction]

class EngineEvent(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENGINE_EVENT_UNSPECIFIED: _ClassVar[EngineEvent]
    ENGINE_EVENT_LISTED: _ClassVar[EngineEvent]
    ENGINE_EVENT_REFUSED: _ClassVar[EngineEvent]
    ENGINE_EVENT_OFFERED: _ClassVar[EngineEvent]
    ENGINE_EVENT_REJECTED: _ClassVar[EngineEvent]
    ENGINE_EVENT_TAKEN_OVER: _ClassVar[EngineEvent]
    ENGINE_EVENT_ROLLED_BACK: _ClassVar[EngineEvent]
    ENGINE_EVENT_SETTLED: _ClassVar[EngineEvent]
    ENGINE_EVENT_LOST: _ClassVar[EngineEvent]
    ENGINE_EVENT_OPENED: _ClassVar[EngineEvent]
FEED_STATE_UNSPECIFIED: FeedState
FEED_STATE_CONNECTED: FeedState
FEED_STATE_RECONNECTING: FeedState
FEED_STATE_SILENT: FeedState
FEED_STATE_FALLBACK: FeedState
FEED_STATE_RETURNED: FeedState
FEED_STATE_RATE_LIMITED: FeedState
FEED_STATE_RESYNCING: FeedState
FEED_STATE_RESYNCED: FeedState
FEED_STATE_REFUSED: FeedState
FEED_STATE_REDEFINED: FeedState
ENGINE_ACTION_UNSPECIFIED: EngineAction
ENGINE_ACTION_LIST: EngineAction
ENGINE_ACTION_OFFER: EngineAction
ENGINE_ACTION_USE: EngineAction
ENGINE_ACTION_SETTLE: EngineAction
ENGINE_EVENT_UNSPECIFIED: EngineEvent
ENGINE_EVENT_LISTED: EngineEvent
ENGINE_EVENT_REFUSED: EngineEvent
ENGINE_EVENT_OFFERED: EngineEvent
ENGINE_EVENT_REJECTED: EngineEvent
ENGINE_EVENT_TAKEN_OVER: EngineEvent
ENGINE_EVENT_ROLLED_BACK: EngineEvent
ENGINE_EVENT_SETTLED: EngineEvent
ENGINE_EVENT_LOST: EngineEvent
ENGINE_EVENT_OPENED: EngineEvent

class StepAcknowledged(_message.Message):
    __slots__ = ("service", "instrument", "step")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    service: str
    instrument: _market_pb2.InstrumentId
    step: int
    def __init__(self, service: _Optional[str] = ..., instrument: _Optional[_Union[_market_pb2.InstrumentId, _Mapping]] = ..., step: _Optional[int] = ...) -> None: ...

class ServiceChanged(_message.Message):
    __slots__ = ("service", "running", "at_ns")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    AT_NS_FIELD_NUMBER: _ClassVar[int]
    service: str
    running: bool
    at_ns: int
    def __init__(self, service: _Optional[str] = ..., running: _Optional[bool] = ..., at_ns: _Optional[int] = ...) -> None: ...

class GapDetected(_message.Message):
    __slots__ = ("instrument", "stream", "expected", "was", "at_ns", "ingest_seq", "action")
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    WAS_FIELD_NUMBER: _ClassVar[int]
    AT_NS_FIELD_NUMBER: _ClassVar[int]
    INGEST_SEQ_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    instrument: _market_pb2.InstrumentId
    stream: str
    expected: int
    was: int
    at_ns: int
    ingest_seq: int
    action: str
    def __init__(self, instrument: _Optional[_Union[_market_pb2.InstrumentId, _Mapping]] = ..., stream: _Optional[str] = ..., expected: _Optional[int] = ..., was: _Optional[int] = ..., at_ns: _Optional[int] = ..., ingest_seq: _Optional[int] = ..., action: _Optional[str] = ...) -> None: ...

class DeadLetter(_message.Message):
    __slots__ = ("raw", "source", "schema", "reason", "detail", "attempt", "at_ns", "whole_digest")
    RAW_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    AT_NS_FIELD_NUMBER: _ClassVar[int]
    WHOLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    raw: bytes
    source: str
    schema: str
    reason: str
    detail: str
    attempt: int
    at_ns: int
    whole_digest: bytes
    def __init__(self, raw: _Optional[bytes] = ..., source: _Optional[str] = ..., schema: _Optional[str] = ..., reason: _Optional[str] = ..., detail: _Optional[str] = ..., attempt: _Optional[int] = ..., at_ns: _Optional[int] = ..., whole_digest: _Optional[bytes] = ...) -> None: ...

class Count(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: int
    def __init__(self, name: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...

class ServiceReport(_message.Message):
    __slots__ = ("service", "started_ns", "at_ns", "counts")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    STARTED_NS_FIELD_NUMBER: _ClassVar[int]
    AT_NS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    service: str
    started_ns: int
    at_ns: int
    counts: _containers.RepeatedCompositeFieldContainer[Count]
    def __init__(self, service: _Optional[str] = ..., started_ns: _Optional[int] = ..., at_ns: _Optional[int] = ..., counts: _Optional[_Iterable[_Union[Count, _Mapping]]] = ...) -> None: ...

class FeedChanged(_message.Message):
    __slots__ = ("change_id", "instrument", "state", "provider", "detail", "at_ns", "epoch", "attempt")
    CHANGE_ID_FIELD_NUMBER: _ClassVar[int]
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    AT_NS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    change_id: bytes
    instrument: _market_pb2.InstrumentId
    state: FeedState
    provider: str
    detail: str
    at_ns: int
    epoch: int
    attempt: int
    def __init__(self, change_id: _Optional[bytes] = ..., instrument: _Optional[_Union[_market_pb2.InstrumentId, _Mapping]] = ..., state: _Optional[_Union[FeedState, str]] = ..., provider: _Optional[str] = ..., detail: _Optional[str] = ..., at_ns: _Optional[int] = ..., epoch: _Optional[int] = ..., attempt: _Optional[int] = ...) -> None: ...

class HeatMap(_message.Message):
    __slots__ = ("title", "rows", "columns", "values", "low", "high", "as_of_ns")
    TITLE_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    AS_OF_NS_FIELD_NUMBER: _ClassVar[int]
    title: str
    rows: _containers.RepeatedScalarFieldContainer[str]
    columns: _containers.RepeatedScalarFieldContainer[str]
    values: bytes
    low: float
    high: float
    as_of_ns: int
    def __init__(self, title: _Optional[str] = ..., rows: _Optional[_Iterable[str]] = ..., columns: _Optional[_Iterable[str]] = ..., values: _Optional[bytes] = ..., low: _Optional[float] = ..., high: _Optional[float] = ..., as_of_ns: _Optional[int] = ...) -> None: ...

class EngineRequest(_message.Message):
    __slots__ = ("request_id", "key", "action", "bundle", "author", "reason")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    request_id: bytes
    key: str
    action: EngineAction
    bundle: str
    author: str
    reason: str
    def __init__(self, request_id: _Optional[bytes] = ..., key: _Optional[str] = ..., action: _Optional[_Union[EngineAction, str]] = ..., bundle: _Optional[str] = ..., author: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class EngineReport(_message.Message):
    __slots__ = ("request_id", "key", "event", "detail", "choice", "version", "trial", "library", "at_ns")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    CHOICE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TRIAL_FIELD_NUMBER: _ClassVar[int]
    LIBRARY_FIELD_NUMBER: _ClassVar[int]
    AT_NS_FIELD_NUMBER: _ClassVar[int]
    request_id: bytes
    key: str
    event: EngineEvent
    detail: str
    choice: _context_pb2.EngineChoice
    version: int
    trial: EngineTrial
    library: _containers.RepeatedCompositeFieldContainer[_context_pb2.EngineBundle]
    at_ns: int
    def __init__(self, request_id: _Optional[bytes] = ..., key: _Optional[str] = ..., event: _Optional[_Union[EngineEvent, str]] = ..., detail: _Optional[str] = ..., choice: _Optional[_Union[_context_pb2.EngineChoice, _Mapping]] = ..., version: _Optional[int] = ..., trial: _Optional[_Union[EngineTrial, _Mapping]] = ..., library: _Optional[_Iterable[_Union[_context_pb2.EngineBundle, _Mapping]]] = ..., at_ns: _Optional[int] = ...) -> None: ...

class EngineTrial(_message.Message):
    __slots__ = ("windows", "planned", "errors", "no_numbers", "compared", "disagreed", "distance", "p99_us", "other_p99_us", "left", "was", "limit")
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    PLANNED_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    NO_NUMBERS_FIELD_NUMBER: _ClassVar[int]
    COMPARED_FIELD_NUMBER: _ClassVar[int]
    DISAGREED_FIELD_NUMBER: _ClassVar[int]
    DISTANCE_FIELD_NUMBER: _ClassVar[int]
    P99_US_FIELD_NUMBER: _ClassVar[int]
    OTHER_P99_US_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    WAS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    windows: int
    planned: int
    errors: int
    no_numbers: int
    compared: int
    disagreed: int
    distance: float
    p99_us: float
    other_p99_us: float
    left: str
    was: float
    limit: float
    def __init__(self, windows: _Optional[int] = ..., planned: _Optional[int] = ..., errors: _Optional[int] = ..., no_numbers: _Optional[int] = ..., compared: _Optional[int] = ..., disagreed: _Optional[int] = ..., distance: _Optional[float] = ..., p99_us: _Optional[float] = ..., other_p99_us: _Optional[float] = ..., left: _Optional[str] = ..., was: _Optional[float] = ..., limit: _Optional[float] = ...) -> None: ...

class DriftChanged(_message.Message):
    __slots__ = ("instrument", "before", "state", "at_ns")
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    AT_NS_FIELD_NUMBER: _ClassVar[int]
    instrument: _market_pb2.InstrumentId
    before: _context_pb2.DriftLevel
    state: _context_pb2.DriftState
    at_ns: int
    def __init__(self, instrument: _Optional[_Union[_market_pb2.InstrumentId, _Mapping]] = ..., before: _Optional[_Union[_context_pb2.DriftLevel, str]] = ..., state: _Optional[_Union[_context_pb2.DriftState, _Mapping]] = ..., at_ns: _Optional[int] = ...) -> None: ...
