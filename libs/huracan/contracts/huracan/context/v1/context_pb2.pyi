from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EngineStage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENGINE_STAGE_UNSPECIFIED: _ClassVar[EngineStage]
    ENGINE_STAGE_SETTLED: _ClassVar[EngineStage]
    ENGINE_STAGE_SHADOW: _ClassVar[EngineStage]
    ENGINE_STAGE_PROBATION: _ClassVar[EngineStage]

class DriftLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DRIFT_LEVEL_UNSPECIFIED: _ClassVar[DriftLevel]
    DRIFT_LEVEL_OK: _ClassVar[DriftLevel]
    DRIFT_LEVEL_WATCH: _ClassVar[DriftLevel]
    DRIFT_LEVEL_ACT: _ClassVar[DriftLevel]
ENGINE_STAGE_UNSPECIFIED: EngineStage
ENGINE_STAGE_SETTLED: EngineStage
ENGINE_STAGE_SHADOW: EngineStage
ENGINE_STAGE_PROBATION: EngineStage
DRIFT_LEVEL_UNSPECIFIED: DriftLevel
DRIFT_LEVEL_OK: DriftLevel
DRIFT_LEVEL_WATCH: DriftLevel
DRIFT_LEVEL_ACT: DriftLevel

class ContextRef(_message.Message):
    __slots__ = ("kind", "key", "version")
    KIND_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    kind: str
    key: str
    version: int
    def __init__(self, kind: _Optional[str] = ..., key: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class Context(_message.Message):
    __slots__ = ("ref", "epoch", "as_of_ns", "effective_from_ns", "valid_until_ns", "payload_digest", "engine_digest", "regime", "mood", "correlation", "engine", "drift")
    REF_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    AS_OF_NS_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_FROM_NS_FIELD_NUMBER: _ClassVar[int]
    VALID_UNTIL_NS_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ENGINE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    REGIME_FIELD_NUMBER: _ClassVar[int]
    MOOD_FIELD_NUMBER: _ClassVar[int]
    CORRELATION_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    DRIFT_FIELD_NUMBER: _ClassVar[int]
    ref: ContextRef
    epoch: int
    as_of_ns: int
    effective_from_ns: int
    valid_until_ns: int
    payload_digest: bytes
    engine_digest: bytes
    regime: RegimeState
    mood: MoodState
    correlation: CorrelationState
    engine: EngineChoice
    drift: DriftState
    def __init__(self, ref: _Optional[_Union[ContextRef, _Mapping]] = ..., epoch: _Optional[int] = ..., as_of_ns: _Optional[int] = ..., effective_from_ns: _Optional[int] = ..., valid_until_ns: _Optional[int] = ..., payload_digest: _Optional[bytes] = ..., engine_digest: _Optional[bytes] = ..., regime: _Optional[_Union[RegimeState, _Mapping]] = ..., mood: _Optional[_Union[MoodState, _Mapping]] = ..., correlation: _Optional[_Union[CorrelationState, _Mapping]] = ..., engine: _Optional[_Union[EngineChoice, _Mapping]] = ..., drift: _Optional[_Union[DriftState, _Mapping]] = ...) -> None: ...

class RegimeState(_message.Message):
    __slots__ = ("shares", "volatility", "bars", "horizon_bars", "transition")
    SHARES_FIELD_NUMBER: _ClassVar[int]
    VOLATILITY_FIELD_NUMBER: _ClassVar[int]
    BARS_FIELD_NUMBER: _ClassVar[int]
    HORIZON_BARS_FIELD_NUMBER: _ClassVar[int]
    TRANSITION_FIELD_NUMBER: _ClassVar[int]
    shares: _containers.RepeatedCompositeFieldContainer[RegimeShare]
    volatility: float
    bars: int
    horizon_bars: int
    transition: RegimeTransition
    def __init__(self, shares: _Optional[_Iterable[_Union[RegimeShare, _Mapping]]] = ..., volatility: _Optional[float] = ..., bars: _Optional[int] = ..., horizon_bars: _Optional[int] = ..., transition: _Optional[_Union[RegimeTransition, _Mapping]] = ...) -> None: ...

class RegimeTransition(_message.Message):
    __slots__ = ("known", "change_probability", "chain", "expected_bars")
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    CHANGE_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_BARS_FIELD_NUMBER: _ClassVar[int]
    known: str
    change_probability: float
    chain: _containers.RepeatedCompositeFieldContainer[RegimeShare]
    expected_bars: float
    def __init__(self, known: _Optional[str] = ..., change_probability: _Optional[float] = ..., chain: _Optional[_Iterable[_Union[RegimeShare, _Mapping]]] = ..., expected_bars: _Optional[float] = ...) -> None: ...

class RegimeShare(_message.Message):
    __slots__ = ("regime", "probability")
    REGIME_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    regime: str
    probability: float
    def __init__(self, regime: _Optional[str] = ..., probability: _Optional[float] = ...) -> None: ...

class MoodState(_message.Message):
    __slots__ = ("polarity", "weight", "headlines", "last_news_id")
    POLARITY_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    HEADLINES_FIELD_NUMBER: _ClassVar[int]
    LAST_NEWS_ID_FIELD_NUMBER: _ClassVar[int]
    polarity: float
    weight: float
    headlines: int
    last_news_id: bytes
    def __init__(self, polarity: _Optional[float] = ..., weight: _Optional[float] = ..., headlines: _Optional[int] = ..., last_news_id: _Optional[bytes] = ...) -> None: ...

class CorrelationState(_message.Message):
    __slots__ = ("instruments", "correlations", "absorption_ratio", "shrinkage", "bars")
    INSTRUMENTS_FIELD_NUMBER: _ClassVar[int]
    CORRELATIONS_FIELD_NUMBER: _ClassVar[int]
    ABSORPTION_RATIO_FIELD_NUMBER: _ClassVar[int]
    SHRINKAGE_FIELD_NUMBER: _ClassVar[int]
    BARS_FIELD_NUMBER: _ClassVar[int]
    instruments: _containers.RepeatedScalarFieldContainer[str]
    correlations: bytes
    absorption_ratio: float
    shrinkage: float
    bars: int
    def __init__(self, instruments: _Optional[_Iterable[str]] = ..., correlations: _Optional[bytes] = ..., absorption_ratio: _Optional[float] = ..., shrinkage: _Optional[float] = ..., bars: _Optional[int] = ...) -> None: ...

class EngineChoice(_message.Message):
    __slots__ = ("serves", "beside", "stage", "author", "reason", "restarts")
    SERVES_FIELD_NUMBER: _ClassVar[int]
    BESIDE_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    serves: EngineBundle
    beside: EngineBundle
    stage: EngineStage
    author: str
    reason: str
    restarts: int
    def __init__(self, serves: _Optional[_Union[EngineBundle, _Mapping]] = ..., beside: _Optional[_Union[EngineBundle, _Mapping]] = ..., stage: _Optional[_Union[EngineStage, str]] = ..., author: _Optional[str] = ..., reason: _Optional[str] = ..., restarts: _Optional[int] = ...) -> None: ...

class EngineBundle(_message.Message):
    __slots__ = ("digest", "name", "version")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    name: str
    version: int
    def __init__(self, digest: _Optional[bytes] = ..., name: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class DriftState(_message.Message):
    __slots__ = ("level", "since_ns", "findings", "rows", "missed", "reference_rows", "reference_digest")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    SINCE_NS_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    MISSED_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_ROWS_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    level: DriftLevel
    since_ns: int
    findings: _containers.RepeatedCompositeFieldContainer[DriftFinding]
    rows: int
    missed: int
    reference_rows: int
    reference_digest: bytes
    def __init__(self, level: _Optional[_Union[DriftLevel, str]] = ..., since_ns: _Optional[int] = ..., findings: _Optional[_Iterable[_Union[DriftFinding, _Mapping]]] = ..., rows: _Optional[int] = ..., missed: _Optional[int] = ..., reference_rows: _Optional[int] = ..., reference_digest: _Optional[bytes] = ...) -> None: ...

class DriftFinding(_message.Message):
    __slots__ = ("name", "method", "level", "value", "limit", "before", "after")
    NAME_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    name: str
    method: str
    level: DriftLevel
    value: float
    limit: float
    before: float
    after: float
    def __init__(self, name: _Optional[str] = ..., method: _Optional[str] = ..., level: _Optional[_Union[DriftLevel, str]] = ..., value: _Optional[float] = ..., limit: _Optional[float] = ..., before: _Optional[float] = ..., after: _Optional[float] = ...) -> None: ...
