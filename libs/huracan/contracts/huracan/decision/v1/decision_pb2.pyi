from huracan.contracts.huracan.context.v1 import context_pb2 as _context_pb2
from huracan.contracts.huracan.market.v1 import market_pb2 as _market_pb2
from huracan.contracts.huracan.opinion.v1 import opinion_pb2 as _opinion_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Direction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DIRECTION_UNSPECIFIED: _ClassVar[Direction]
    DIRECTION_HOLD: _ClassVar[Direction]
    DIRECTION_BUY: _ClassVar[Direction]
    DIRECTION_SELL: _ClassVar[Direction]
DIRECTION_UNSPECIFIED: Direction
DIRECTION_HOLD: Direction
DIRECTION_BUY: Direction
DIRECTION_SELL: Direction

class Vote(_message.Message):
    __slots__ = ("expert", "opinion_id", "weight", "reason", "engine_digest")
    EXPERT_FIELD_NUMBER: _ClassVar[int]
    OPINION_ID_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ENGINE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    expert: str
    opinion_id: bytes
    weight: float
    reason: _opinion_pb2.AbstainReason
    engine_digest: bytes
    def __init__(self, expert: _Optional[str] = ..., opinion_id: _Optional[bytes] = ..., weight: _Optional[float] = ..., reason: _Optional[_Union[_opinion_pb2.AbstainReason, str]] = ..., engine_digest: _Optional[bytes] = ...) -> None: ...

class Decision(_message.Message):
    __slots__ = ("decision_id", "strategy", "instrument", "shard", "epoch", "step", "close_ns", "direction", "confidence", "size", "abstained", "reason", "valid_until_ns", "votes", "contexts", "feature_set_digest", "config_digest", "p_down", "p_flat", "p_up", "disagreement", "gateway_epoch", "first_ingest_seq", "last_ingest_seq", "window_digest", "regime_shares", "size_increment")
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    CLOSE_NS_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    ABSTAINED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    VALID_UNTIL_NS_FIELD_NUMBER: _ClassVar[int]
    VOTES_FIELD_NUMBER: _ClassVar[int]
    CONTEXTS_FIELD_NUMBER: _ClassVar[int]
    FEATURE_SET_DIGEST_FIELD_NUMBER: _ClassVar[int]
    CONFIG_DIGEST_FIELD_NUMBER: _ClassVar[int]
    P_DOWN_FIELD_NUMBER: _ClassVar[int]
    P_FLAT_FIELD_NUMBER: _ClassVar[int]
    P_UP_FIELD_NUMBER: _ClassVar[int]
    DISAGREEMENT_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_EPOCH_FIELD_NUMBER: _ClassVar[int]
    FIRST_INGEST_SEQ_FIELD_NUMBER: _ClassVar[int]
    LAST_INGEST_SEQ_FIELD_NUMBER: _ClassVar[int]
    WINDOW_DIGEST_FIELD_NUMBER: _ClassVar[int]
    REGIME_SHARES_FIELD_NUMBER: _ClassVar[int]
    SIZE_INCREMENT_FIELD_NUMBER: _ClassVar[int]
    decision_id: bytes
    strategy: str
    instrument: _market_pb2.InstrumentId
    shard: int
    epoch: int
    step: int
    close_ns: int
    direction: Direction
    confidence: float
    size: int
    abstained: bool
    reason: _opinion_pb2.AbstainReason
    valid_until_ns: int
    votes: _containers.RepeatedCompositeFieldContainer[Vote]
    contexts: _containers.RepeatedCompositeFieldContainer[_context_pb2.ContextRef]
    feature_set_digest: bytes
    config_digest: bytes
    p_down: float
    p_flat: float
    p_up: float
    disagreement: float
    gateway_epoch: int
    first_ingest_seq: int
    last_ingest_seq: int
    window_digest: bytes
    regime_shares: _containers.RepeatedCompositeFieldContainer[_context_pb2.RegimeShare]
    size_increment: str
    def __init__(self, decision_id: _Optional[bytes] = ..., strategy: _Optional[str] = ..., instrument: _Optional[_Union[_market_pb2.InstrumentId, _Mapping]] = ..., shard: _Optional[int] = ..., epoch: _Optional[int] = ..., step: _Optional[int] = ..., close_ns: _Optional[int] = ..., direction: _Optional[_Union[Direction, str]] = ..., confidence: _Optional[float] = ..., size: _Optional[int] = ..., abstained: _Optional[bool] = ..., reason: _Optional[_Union[_opinion_pb2.AbstainReason, str]] = ..., valid_until_ns: _Optional[int] = ..., votes: _Optional[_Iterable[_Union[Vote, _Mapping]]] = ..., contexts: _Optional[_Iterable[_Union[_context_pb2.ContextRef, _Mapping]]] = ..., feature_set_digest: _Optional[bytes] = ..., config_digest: _Optional[bytes] = ..., p_down: _Optional[float] = ..., p_flat: _Optional[float] = ..., p_up: _Optional[float] = ..., disagreement: _Optional[float] = ..., gateway_epoch: _Optional[int] = ..., first_ingest_seq: _Optional[int] = ..., last_ingest_seq: _Optional[int] = ..., window_digest: _Optional[bytes] = ..., regime_shares: _Optional[_Iterable[_Union[_context_pb2.RegimeShare, _Mapping]]] = ..., size_increment: _Optional[str] = ...) -> None: ...

class DecisionDigestRecord(_message.Message):
    __slots__ = ("decision_id", "strategy", "instrument", "step", "direction", "confidence", "size", "abstained", "reason", "valid_until_ns", "opinion_ids", "weights", "contexts", "engine_digests", "feature_set_digest", "config_digest")
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    ABSTAINED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    VALID_UNTIL_NS_FIELD_NUMBER: _ClassVar[int]
    OPINION_IDS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    CONTEXTS_FIELD_NUMBER: _ClassVar[int]
    ENGINE_DIGESTS_FIELD_NUMBER: _ClassVar[int]
    FEATURE_SET_DIGEST_FIELD_NUMBER: _ClassVar[int]
    CONFIG_DIGEST_FIELD_NUMBER: _ClassVar[int]
    decision_id: bytes
    strategy: str
    instrument: _market_pb2.InstrumentId
    step: int
    direction: Direction
    confidence: float
    size: int
    abstained: bool
    reason: _opinion_pb2.AbstainReason
    valid_until_ns: int
    opinion_ids: _containers.RepeatedScalarFieldContainer[bytes]
    weights: _containers.RepeatedScalarFieldContainer[float]
    contexts: _containers.RepeatedCompositeFieldContainer[_context_pb2.ContextRef]
    engine_digests: _containers.RepeatedScalarFieldContainer[bytes]
    feature_set_digest: bytes
    config_digest: bytes
    def __init__(self, decision_id: _Optional[bytes] = ..., strategy: _Optional[str] = ..., instrument: _Optional[_Union[_market_pb2.InstrumentId, _Mapping]] = ..., step: _Optional[int] = ..., direction: _Optional[_Union[Direction, str]] = ..., confidence: _Optional[float] = ..., size: _Optional[int] = ..., abstained: _Optional[bool] = ..., reason: _Optional[_Union[_opinion_pb2.AbstainReason, str]] = ..., valid_until_ns: _Optional[int] = ..., opinion_ids: _Optional[_Iterable[bytes]] = ..., weights: _Optional[_Iterable[float]] = ..., contexts: _Optional[_Iterable[_Union[_context_pb2.ContextRef, _Mapping]]] = ..., engine_digests: _Optional[_Iterable[bytes]] = ..., feature_set_digest: _Optional[bytes] = ..., config_digest: _Optional[bytes] = ...) -> None: ...
