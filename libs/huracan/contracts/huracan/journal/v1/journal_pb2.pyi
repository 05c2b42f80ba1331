from huracan.contracts.huracan.context.v1 import context_pb2 as _context_pb2
from huracan.contracts.huracan.execution.v1 import execution_pb2 as _execution_pb2
from huracan.contracts.huracan.market.v1 import market_pb2 as _market_pb2
from huracan.contracts.huracan.opinion.v1 import opinion_pb2 as _opinion_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JournalEntry(_message.Message):
    __slots__ = ("key", "epoch", "at_ns", "epoch_started", "window_opened", "opinion", "context", "deadline_fired", "expert_availability", "published", "order", "execution_report", "risk_state_changed")
    KEY_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    AT_NS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_STARTED_FIELD_NUMBER: _ClassVar[int]
    WINDOW_OPENED_FIELD_NUMBER: _ClassVar[int]
    OPINION_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIRED_FIELD_NUMBER: _ClassVar[int]
    EXPERT_AVAILABILITY_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_REPORT_FIELD_NUMBER: _ClassVar[int]
    RISK_STATE_CHANGED_FIELD_NUMBER: _ClassVar[int]
    key: str
    epoch: int
    at_ns: int
    epoch_started: EpochStarted
    window_opened: WindowOpened
    opinion: _opinion_pb2.Opinion
    context: _context_pb2.Context
    deadline_fired: DeadlineFired
    expert_availability: ExpertAvailability
    published: Published
    order: _execution_pb2.Order
    execution_report: _execution_pb2.ExecutionReport
    risk_state_changed: RiskStateChanged
    def __init__(self, key: _Optional[str] = ..., epoch: _Optional[int] = ..., at_ns: _Optional[int] = ..., epoch_started: _Optional[_Union[EpochStarted, _Mapping]] = ..., window_opened: _Optional[_Union[WindowOpened, _Mapping]] = ..., opinion: _Optional[_Union[_opinion_pb2.Opinion, _Mapping]] = ..., context: _Optional[_Union[_context_pb2.Context, _Mapping]] = ..., deadline_fired: _Optional[_Union[DeadlineFired, _Mapping]] = ..., expert_availability: _Optional[_Union[ExpertAvailability, _Mapping]] = ..., published: _Optional[_Union[Published, _Mapping]] = ..., order: _Optional[_Union[_execution_pb2.Order, _Mapping]] = ..., execution_report: _Optional[_Union[_execution_pb2.ExecutionReport, _Mapping]] = ..., risk_state_changed: _Optional[_Union[RiskStateChanged, _Mapping]] = ...) -> None: ...

class EpochStarted(_message.Message):
    __slots__ = ("config_json", "config_digest")
    CONFIG_JSON_FIELD_NUMBER: _ClassVar[int]
    CONFIG_DIGEST_FIELD_NUMBER: _ClassVar[int]
    config_json: str
    config_digest: bytes
    def __init__(self, config_json: _Optional[str] = ..., config_digest: _Optional[bytes] = ...) -> None: ...

class WindowOpened(_message.Message):
    __slots__ = ("instrument", "gateway_epoch", "step", "first_step", "close_ns", "first_ingest_seq", "last_ingest_seq", "best_bid", "best_ask", "window_digest", "feature_set_digest", "valid_rows", "last_frame_ns", "book_synced", "expected_contexts", "frames_digest")
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_EPOCH_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    FIRST_STEP_FIELD_NUMBER: _ClassVar[int]
    CLOSE_NS_FIELD_NUMBER: _ClassVar[int]
    FIRST_INGEST_SEQ_FIELD_NUMBER: _ClassVar[int]
    LAST_INGEST_SEQ_FIELD_NUMBER: _ClassVar[int]
    BEST_BID_FIELD_NUMBER: _ClassVar[int]
    BEST_ASK_FIELD_NUMBER: _ClassVar[int]
    WINDOW_DIGEST_FIELD_NUMBER: _ClassVar[int]
    FEATURE_SET_DIGEST_FIELD_NUMBER: _ClassVar[int]
    VALID_ROWS_FIELD_NUMBER: _ClassVar[int]
    LAST_FRAME_NS_FIELD_NUMBER: _ClassVar[int]
    BOOK_SYNCED_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_CONTEXTS_FIELD_NUMBER: _ClassVar[int]
    FRAMES_DIGEST_FIELD_NUMBER: _ClassVar[int]
    instrument: _market_pb2.InstrumentDefinition
    gateway_epoch: int
    step: int
    first_step: int
    close_ns: int
    first_ingest_seq: int
    last_ingest_seq: int
    best_bid: int
    best_ask: int
    window_digest: bytes
    feature_set_digest: bytes
    valid_rows: int
    last_frame_ns: int
    book_synced: bool
    expected_contexts: _containers.RepeatedCompositeFieldContainer[_context_pb2.ContextRef]
    frames_digest: bytes
    def __init__(self, instrument: _Optional[_Union[_market_pb2.InstrumentDefinition, _Mapping]] = ..., gateway_epoch: _Optional[int] = ..., step: _Optional[int] = ..., first_step: _Optional[int] = ..., close_ns: _Optional[int] = ..., first_ingest_seq: _Optional[int] = ..., last_ingest_seq: _Optional[int] = ..., best_bid: _Optional[int] = ..., best_ask: _Optional[int] = ..., window_digest: _Optional[bytes] = ..., feature_set_digest: _Optional[bytes] = ..., valid_rows: _Optional[int] = ..., last_frame_ns: _Optional[int] = ..., book_synced: _Optional[bool] = ..., expected_contexts: _Optional[_Iterable[_Union[_context_pb2.ContextRef, _Mapping]]] = ..., frames_digest: _Optional[bytes] = ...) -> None: ...

class DeadlineFired(_message.Message):
    __slots__ = ("instrument", "gateway_epoch", "step")
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_EPOCH_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    instrument: _market_pb2.InstrumentId
    gateway_epoch: int
    step: int
    def __init__(self, instrument: _Optional[_Union[_market_pb2.InstrumentId, _Mapping]] = ..., gateway_epoch: _Optional[int] = ..., step: _Optional[int] = ...) -> None: ...

class ExpertAvailability(_message.Message):
    __slots__ = ("expert", "available")
    EXPERT_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    expert: str
    available: bool
    def __init__(self, expert: _Optional[str] = ..., available: _Optional[bool] = ...) -> None: ...

class Published(_message.Message):
    __slots__ = ("through",)
    THROUGH_FIELD_NUMBER: _ClassVar[int]
    through: int
    def __init__(self, through: _Optional[int] = ...) -> None: ...

class RiskStateChanged(_message.Message):
    __slots__ = ("state", "equity", "peak_equity")
    STATE_FIELD_NUMBER: _ClassVar[int]
    EQUITY_FIELD_NUMBER: _ClassVar[int]
    PEAK_EQUITY_FIELD_NUMBER: _ClassVar[int]
    state: _execution_pb2.RiskState
    equity: str
    peak_equity: str
    def __init__(self, state: _Optional[_Union[_execution_pb2.RiskState, str]] = ..., equity: _Optional[str] = ..., peak_equity: _Optional[str] = ...) -> None: ...
