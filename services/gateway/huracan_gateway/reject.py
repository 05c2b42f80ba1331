"""Why a frame was refused: every reason there is, each a metric label and a dead-letter code."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Reasons for refusing a frame."""

    TRUNCATED_GZIP = "truncated_gzip"
    BAD_LINE = "bad_line"
    NEGATIVE_TIME = "negative_time"
    RECEIVE_TIME_BACKWARDS = "receive_time_backwards"
    IMPOSSIBLE_TIME = "impossible_time"
    BAD_JSON = "bad_json"
    BAD_FIELD = "bad_field"
    UNKNOWN_STREAM = "unknown_stream"
    OTHER_VENUE = "other_venue"
    OTHER_SYMBOL = "other_symbol"
    NOT_A_NUMBER = "not_a_number"
    NOT_POSITIVE = "not_positive"
    OFF_INCREMENT = "off_increment"
    CROSSED = "crossed"
    OUT_OF_ORDER = "out_of_order"
    DUPLICATE = "duplicate"
    FAR_OFF_PRICE = "far_off_price"
    ANOMALY = "anomaly"


class Rejected(Exception):
    """A frame that is refused: the reason, and the field with what it was."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
