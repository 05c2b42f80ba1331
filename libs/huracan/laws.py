"""Laws: what anything behind a port must keep, checked on any of them."""

from __future__ import annotations


class LawBroken(AssertionError):
    """Something breaks a law; the message names the law and shows the case."""

    def __init__(self, law: str, detail: str) -> None:
        super().__init__(f"{law}: {detail}")
        self.law = law


def require(holds: bool, law: str, detail: str) -> None:
    """Raise LawBroken unless a law holds."""
    if not holds:
        raise LawBroken(law, detail)
