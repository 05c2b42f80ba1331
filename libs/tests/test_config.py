"""Configuration: frozen, strict, and equal settings have equal digests."""

from __future__ import annotations

import hashlib
from decimal import Decimal

import pytest
from pydantic import Field, ValidationError

from huracan.config import Config


class Limits(Config):
    orders_per_s: int = 5
    share: float = 0.5


class Settings(Config):
    name: str = "core"
    limits: Limits = Limits()
    by_underlying: dict[str, Decimal] = Field(default_factory=lambda: {"BTC": Decimal("0.10"), "ETH": Decimal(2)})


def test_an_unknown_key_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="flush_interval"):
        Settings.model_validate({"flush_interval": 3})


def test_settings_do_not_change_while_a_process_runs() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().name = "other"


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_a_number_that_is_none_is_refused(number: str) -> None:
    with pytest.raises(ValidationError, match="finite"):
        Limits(share=float(number))


def test_the_digest_is_of_the_canonical_json() -> None:
    text = '{"by_underlying":{"BTC":"0.10","ETH":"2"},"limits":{"orders_per_s":5,"share":0.5},"name":"core"}'
    assert Settings().canonical_json() == text
    assert Settings().digest() == hashlib.sha256(text.encode()).digest()


def test_equal_settings_have_equal_digests_however_they_are_written() -> None:
    other = Settings.model_validate({"by_underlying": {"ETH": "2", "BTC": "0.10"}, "name": "core", "limits": {}})
    assert other.digest() == Settings().digest()


@pytest.mark.parametrize("changed", [{"name": "edge"}, {"limits": {"orders_per_s": 6}}, {"by_underlying": {"BTC": 1}}])
def test_any_other_setting_has_another_digest(changed: dict[str, object]) -> None:
    assert Settings.model_validate(changed).digest() != Settings().digest()


def test_settings_come_back_from_their_canonical_json() -> None:
    settings = Settings(name="é", limits=Limits(share=0.1))
    assert Settings.model_validate_json(settings.canonical_json()) == settings
