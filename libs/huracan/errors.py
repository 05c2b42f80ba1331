"""Errors, split by what the caller must do about them."""


class HuracanError(Exception):
    """Root of every error that Huracan raises on purpose."""


class Recoverable(HuracanError):
    """Try again, capped and jittered: a lost acknowledgement, a server that is away."""


class PartlyAppended(Recoverable):
    """Of records that were appended in order some are acknowledged, the one after them is not."""

    def __init__(self, detail: str, *, acknowledged: int) -> None:
        super().__init__(detail)
        self.acknowledged = acknowledged
        """Records from the first on that need not be appended again."""


class Fatal(HuracanError):
    """Stop and report: trying again cannot help."""


class BadInput(Fatal):
    """What the user gave cannot be used; the message names the field and the reason."""


class PoisonMessage(HuracanError):
    """A message that cannot be read. It goes to the dead letters with its bytes and this reason code."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class PoisonRecord(PoisonMessage):
    """A record of the log that cannot be read, with its place and its bytes."""

    def __init__(self, reason: str, detail: str, *, offset: int, schema: str, raw: bytes) -> None:
        super().__init__(reason, detail)
        self.offset = offset
        self.schema = schema
        self.raw = raw


class SequenceGap(HuracanError):
    """An order book update does not follow the one before; the book is dropped until the next snapshot."""

    def __init__(self, expected: int, was: int) -> None:
        super().__init__(f"pu was {was}, does not follow u {expected}; book dropped, resync started")
        self.expected = expected
        self.was = was
