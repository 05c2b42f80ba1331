from huracan.contracts.huracan.market.v1 import market_pb2 as _market_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Side(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SIDE_UNSPECIFIED: _ClassVar[Side]
    SIDE_BUY: _ClassVar[Side]
    SIDE_SELL: _ClassVar[Side]

class OrderState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ORDER_STATE_UNSPECIFIED: _ClassVar[OrderState]
    ORDER_STATE_DENIED: _ClassVar[OrderState]
    ORDER_STATE_PENDING: _ClassVar[OrderState]
    ORDER_STATE_ACCEPTED: _ClassVar[OrderState]
    ORDER_STATE_PARTIALLY_FILLED: _ClassVar[OrderState]
    ORDER_STATE_FILLED: _ClassVar[OrderState]
    ORDER_STATE_CANCELED: _ClassVar[OrderState]
    ORDER_STATE_REJECTED: _ClassVar[OrderState]
    ORDER_STATE_EXPIRED: _ClassVar[OrderState]

class OrderReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ORDER_REASON_UNSPECIFIED: _ClassVar[OrderReason]
    ORDER_REASON_LATE: _ClassVar[OrderReason]
    ORDER_REASON_STALE_MARKET: _ClassVar[OrderReason]
    ORDER_REASON_NO_LIQUIDITY: _ClassVar[OrderReason]
    ORDER_REASON_MAX_POSITION: _ClassVar[OrderReason]
    ORDER_REASON_MAX_ORDER_NOTIONAL: _ClassVar[OrderReason]
    ORDER_REASON_MAX_GROSS_NOTIONAL: _ClassVar[OrderReason]
    ORDER_REASON_ORDER_RATE: _ClassVar[OrderReason]
    ORDER_REASON_REDUCING: _ClassVar[OrderReason]
    ORDER_REASON_HALTED: _ClassVar[OrderReason]
    ORDER_REASON_DUPLICATE: _ClassVar[OrderReason]
    ORDER_REASON_OLD_EPOCH: _ClassVar[OrderReason]
    ORDER_REASON_NEVER_ARRIVED: _ClassVar[OrderReason]

class RiskState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RISK_STATE_UNSPECIFIED: _ClassVar[RiskState]
    RISK_STATE_ACTIVE: _ClassVar[RiskState]
    RISK_STATE_REDUCING: _ClassVar[RiskState]
    RISK_STATE_HALTED: _ClassVar[RiskState]
SIDE_UNSPECIFIED: Side
SIDE_BUY: Side
SIDE_SELL: Side
ORDER_STATE_UNSPECIFIED: OrderState
ORDER_STATE_DENIED: OrderState
ORDER_STATE_PENDING: OrderState
ORDER_STATE_ACCEPTED: OrderState
ORDER_STATE_PARTIALLY_FILLED: OrderState
ORDER_STATE_FILLED: OrderState
ORDER_STATE_CANCELED: OrderState
ORDER_STATE_REJECTED: OrderState
ORDER_STATE_EXPIRED: OrderState
ORDER_REASON_UNSPECIFIED: OrderReason
ORDER_REASON_LATE: OrderReason
ORDER_REASON_STALE_MARKET: OrderReason
ORDER_REASON_NO_LIQUIDITY: OrderReason
ORDER_REASON_MAX_POSITION: OrderReason
ORDER_REASON_MAX_ORDER_NOTIONAL: OrderReason
ORDER_REASON_MAX_GROSS_NOTIONAL: OrderReason
ORDER_REASON_ORDER_RATE: OrderReason
ORDER_REASON_REDUCING: OrderReason
ORDER_REASON_HALTED: OrderReason
ORDER_REASON_DUPLICATE: OrderReason
ORDER_REASON_OLD_EPOCH: OrderReason
ORDER_REASON_NEVER_ARRIVED: OrderReason
RISK_STATE_UNSPECIFIED: RiskState
RISK_STATE_ACTIVE: RiskState
RISK_STATE_REDUCING: RiskState
RISK_STATE_HALTED: RiskState

class Order(_message.Message):
    __slots__ = ("order_id", "client_order_id", "decision_id", "account", "instrument", "epoch", "side", "quantity", "limit_price", "state", "reason", "filled_quantity", "created_ns", "updated_ns", "valid_until_ns", "revision")
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    LIMIT_PRICE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FILLED_QUANTITY_FIELD_NUMBER: _ClassVar[int]
    CREATED_NS_FIELD_NUMBER: _ClassVar[int]
    UPDATED_NS_FIELD_NUMBER: _ClassVar[int]
    VALID_UNTIL_NS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    order_id: bytes
    client_order_id: str
    decision_id: bytes
    account: str
    instrument: _market_pb2.InstrumentId
    epoch: int
    side: Side
    quantity: int
    limit_price: int
    state: OrderState
    reason: OrderReason
    filled_quantity: int
    created_ns: int
    updated_ns: int
    valid_until_ns: int
    revision: int
    def __init__(self, order_id: _Optional[bytes] = ..., client_order_id: _Optional[str] = ..., decision_id: _Optional[bytes] = ..., account: _Optional[str] = ..., instrument: _Optional[_Union[_market_pb2.InstrumentId, _Mapping]] = ..., epoch: _Optional[int] = ..., side: _Optional[_Union[Side, str]] = ..., quantity: _Optional[int] = ..., limit_price: _Optional[int] = ..., state: _Optional[_Union[OrderState, str]] = ..., reason: _Optional[_Union[OrderReason, str]] = ..., filled_quantity: _Optional[int] = ..., created_ns: _Optional[int] = ..., updated_ns: _Optional[int] = ..., valid_until_ns: _Optional[int] = ..., revision: _Optional[int] = ...) -> None: ...

class Fill(_message.Message):
    __slots__ = ("fill_id", "order_id", "decision_id", "account", "instrument", "side", "quantity", "price", "fee", "matched_ns", "received_ns")
    FILL_ID_FIELD_NUMBER: _ClassVar[int]
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    FEE_FIELD_NUMBER: _ClassVar[int]
    MATCHED_NS_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_NS_FIELD_NUMBER: _ClassVar[int]
    fill_id: bytes
    order_id: bytes
    decision_id: bytes
    account: str
    instrument: _market_pb2.InstrumentId
    side: Side
    quantity: int
    price: int
    fee: str
    matched_ns: int
    received_ns: int
    def __init__(self, fill_id: _Optional[bytes] = ..., order_id: _Optional[bytes] = ..., decision_id: _Optional[bytes] = ..., account: _Optional[str] = ..., instrument: _Optional[_Union[_market_pb2.InstrumentId, _Mapping]] = ..., side: _Optional[_Union[Side, str]] = ..., quantity: _Optional[int] = ..., price: _Optional[int] = ..., fee: _Optional[str] = ..., matched_ns: _Optional[int] = ..., received_ns: _Optional[int] = ...) -> None: ...

class ExecutionReport(_message.Message):
    __slots__ = ("order", "fills", "received_ns")
    ORDER_FIELD_NUMBER: _ClassVar[int]
    FILLS_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_NS_FIELD_NUMBER: _ClassVar[int]
    order: Order
    fills: _containers.RepeatedCompositeFieldContainer[Fill]
    received_ns: int
    def __init__(self, order: _Optional[_Union[Order, _Mapping]] = ..., fills: _Optional[_Iterable[_Union[Fill, _Mapping]]] = ..., received_ns: _Optional[int] = ...) -> None: ...

class Position(_message.Message):
    __slots__ = ("instrument", "quantity")
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    instrument: _market_pb2.InstrumentId
    quantity: int
    def __init__(self, instrument: _Optional[_Union[_market_pb2.InstrumentId, _Mapping]] = ..., quantity: _Optional[int] = ...) -> None: ...

class AccountState(_message.Message):
    __slots__ = ("account", "epoch", "as_of_ns", "cash", "fees", "equity", "peak_equity", "risk_state", "positions")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    AS_OF_NS_FIELD_NUMBER: _ClassVar[int]
    CASH_FIELD_NUMBER: _ClassVar[int]
    FEES_FIELD_NUMBER: _ClassVar[int]
    EQUITY_FIELD_NUMBER: _ClassVar[int]
    PEAK_EQUITY_FIELD_NUMBER: _ClassVar[int]
    RISK_STATE_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    account: str
    epoch: int
    as_of_ns: int
    cash: str
    fees: str
    equity: str
    peak_equity: str
    risk_state: RiskState
    positions: _containers.RepeatedCompositeFieldContainer[Position]
    def __init__(self, account: _Optional[str] = ..., epoch: _Optional[int] = ..., as_of_ns: _Optional[int] = ..., cash: _Optional[str] = ..., fees: _Optional[str] = ..., equity: _Optional[str] = ..., peak_equity: _Optional[str] = ..., risk_state: _Optional[_Union[RiskState, str]] = ..., positions: _Optional[_Iterable[_Union[Position, _Mapping]]] = ...) -> None: ...
