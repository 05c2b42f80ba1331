from huracan.contracts.huracan.context.v1 import context_pb2 as _context_pb2
from huracan.contracts.huracan.market.v1 import market_pb2 as _market_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AbstainReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ABSTAIN_REASON_UNSPECIFIED: _ClassVar[AbstainReason]
    ABSTAIN_REASON_FEATURE_SET_MISMATCH: _ClassVar[AbstainReason]
    ABSTAIN_REASON_BOOK_UNSYNCED: _ClassVar[AbstainReason]
    ABSTAIN_REASON_STALE: _ClassVar[AbstainReason]
    ABSTAIN_REASON_WARMING: _ClassVar[AbstainReason]
    ABSTAIN_REASON_CONTEXT_MISSING: _ClassVar[AbstainReason]
    ABSTAIN_REASON_CONTEXT_EXPIRED: _ClassVar[AbstainReason]
    ABSTAIN_REASON_BREAKER_OPEN: _ClassVar[AbstainReason]
    ABSTAIN_REASON_NO_INPUT: _ClassVar[AbstainReason]
    ABSTAIN_REASON_CONFLICT: _ClassVar[AbstainReason]
    ABSTAIN_REASON_ALL_ABSTAINED: _ClassVar[AbstainReason]
    ABSTAIN_REASON_LATE: _ClassVar[AbstainReason]
    ABSTAIN_REASON_EPOCH_GAP: _ClassVar[AbstainReason]
ABSTAIN_REASON_UNSPECIFIED: AbstainReason
ABSTAIN_REASON_FEATURE_SET_MISMATCH: AbstainReason
ABSTAIN_REASON_BOOK_UNSYNCED: AbstainReason
ABSTAIN_REASON_STALE: AbstainReason
ABSTAIN_REASON_WARMING: AbstainReason
ABSTAIN_REASON_CONTEXT_MISSING: AbstainReason
ABSTAIN_REASON_CONTEXT_EXPIRED: AbstainReason
ABSTAIN_REASON_BREAKER_OPEN: AbstainReason
ABSTAIN_REASON_NO_INPUT: AbstainReason
ABSTAIN_REASON_CONFLICT: AbstainReason
ABSTAIN_REASON_ALL_ABSTAINED: AbstainReason
ABSTAIN_REASON_LATE: AbstainReason
ABSTAIN_REASON_EPOCH_GAP: AbstainReason

class Opinion(_message.Message):
    __slots__ = ("opinion_id", "expert", "instrument", "shard", "epoch", "step", "close_ns", "horizon_ns", "p_down", "p_flat", "p_up", "confidence", "expected_move_bps", "abstained", "reason", "engine_digest", "feature_set_digest", "window_digest", "contexts", "valid_until_ns")
    OPINION_ID_FIELD_NUMBER: _ClassVar[int]
    EXPERT_FIELD_NUMBER: _ClassVar[int]
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    CLOSE_NS_FIELD_NUMBER: _ClassVar[int]
    HORIZON_NS_FIELD_NUMBER: _ClassVar[int]
    P_DOWN_FIELD_NUMBER: _ClassVar[int]
    P_FLAT_FIELD_NUMBER: _ClassVar[int]
    P_UP_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_MOVE_BPS_FIELD_NUMBER: _ClassVar[int]
    ABSTAINED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ENGINE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    FEATURE_SET_DIGEST_FIELD_NUMBER: _ClassVar[int]
    WINDOW_DIGEST_FIELD_NUMBER: _ClassVar[int]
    CONTEXTS_FIELD_NUMBER: _ClassVar[int]
    VALID_UNTIL_NS_FIELD_NUMBER: _ClassVar[int]
    opinion_id: bytes
    expert: str
    instrument: _market_pb2.InstrumentId
    shard: int
    epoch: int
    step: int
    close_ns: int
    horizon_ns: int
    p_down: float
    p_flat: float
    p_up: float
    confidence: float
    expected_move_bps: float
    abstained: bool
    reason: AbstainReason
    engine_digest: bytes
    feature_set_digest: bytes
    window_digest: bytes
    contexts: _containers.RepeatedCompositeFieldContainer[_context_pb2.ContextRef]
    valid_until_ns: int
    def __init__(self, opinion_id: _Optional[bytes] = ..., expert: _Optional[str] = ..., instrument: _Optional[_Union[_market_pb2.InstrumentId, _Mapping]] = ..., shard: _Optional[int] = ..., epoch: _Optional[int] = ..., step: _Optional[int] = ..., close_ns: _Optional[int] = ..., horizon_ns: _Optional[int] = ..., p_down: _Optional[float] = ..., p_flat: _Optional[float] = ..., p_up: _Optional[float] = ..., confidence: _Optional[float] = ..., expected_move_bps: _Optional[float] = ..., abstained: _Optional[bool] = ..., reason: _Optional[_Union[AbstainReason, str]] = ..., engine_digest: _Optional[bytes] = ..., feature_set_digest: _Optional[bytes] = ..., window_digest: _Optional[bytes] = ..., contexts: _Optional[_Iterable[_Union[_context_pb2.ContextRef, _Mapping]]] = ..., valid_until_ns: _Optional[int] = ...) -> None: ...
