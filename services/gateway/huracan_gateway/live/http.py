"""One client for a venue's REST interface: paced, bounded, and split by what can be done about a failure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Self, TypeVar

import aiohttp
from yarl import URL

from huracan.bus.outbox import Backoff
from huracan.clock import NANOSECONDS
from huracan.errors import Fatal, HuracanError, Recoverable
from huracan.ports import Clock, Rng
from huracan_gateway.adapter import Adapter, Request
from huracan_gateway.live.codes import Meaning, error_in
from huracan_gateway.live.config import LiveConfig
from huracan_gateway.live.limits import VenueLimits

T = TypeVar("T")

OK = 200
TOO_MANY = frozenset({403, 418, 429})
"""Statuses that say to wait: 429 too many requests, 418 banned for a while (Binance), 403 refused by the firewall that
guards against both (Binance "Limits", Bybit "Rate Limit Rules")."""
_TRY_AGAIN = frozenset({408, 425})
_MUCH_USED = 0.8
"""Above this share of the venue's limit, which others behind the same address spend too, requests slow down."""
_FIRST_RETRY_MS = 100.0
"""OKX takes three connections a second from one address ("Connection limit")."""
_MEAN_WAIT = 0.75
"""Of the longest, in the long run: the upper half is drawn from."""
LONGEST_PAUSE_S = 86_400.0
"""A venue that asks for a longer pause is asked again after this one: no ban that is told so lasts longer than days
(Binance "Limits": 2 minutes to 3 days), and what was sent may be a mistake, as milliseconds."""
_CHUNK_BYTES = 65_536
_SHOWN_CHARACTERS = 160


OnFailure = Callable[[Recoverable, int], None]
"""Takes why a try failed, and failures in a row."""


class RateLimited(Recoverable):
    """The venue asks for a pause, in seconds."""

    def __init__(self, text: str, pause_s: float) -> None:
        super().__init__(text)
        self.pause_s = pause_s


def refusal(
    what: str, status: int, headers: Mapping[str, str], text: str, *, config: LiveConfig, now_ns: int
) -> HuracanError:
    """Return what an HTTP status means: RateLimited, Recoverable for the server's faults, Fatal for ours.

    `headers` may be of any case when the mapping is case-insensitive, else in lower case.
    """
    told = f"{what} was answered {status}: {' '.join(text.split())[:_SHOWN_CHARACTERS]}".rstrip(": ")
    if status in TOO_MANY:
        asked_s = _retry_after_s(headers.get("retry-after"), now_ns)
        if asked_s is None:
            return RateLimited(told, config.rate_limited_pause_s)
        if asked_s > LONGEST_PAUSE_S:
            told = f"{told} (it asks for a pause of {asked_s:g} s: {LONGEST_PAUSE_S:g} s is the longest kept)"
        return RateLimited(told, min(asked_s, LONGEST_PAUSE_S))
    if status >= 500 or status in _TRY_AGAIN or status < 300:
        return Recoverable(told)
    return Fatal(f"{told}; check symbol and addresses, and whether the venue serves this region")


def retries(config: LiveConfig, rng: Rng, name: str) -> Backoff:
    """Return how a venue is tried again that has failed: soon, then ever later, down to `connects_per_minute`."""
    longest_ms = 60_000 / config.connects_per_minute / _MEAN_WAIT
    return Backoff(rng, name, first_ms=min(_FIRST_RETRY_MS, longest_ms), longest_ms=longest_ms)


def rest_url(adapter: Adapter, config: LiveConfig) -> str:
    """Return the address of the REST interface that is asked, without a slash at the end."""
    return (config.rest_url or adapter.http.url).rstrip("/")


def _retry_after_s(text: str | None, now_ns: int) -> float | None:
    """Read seconds or a date (RFC 9110, Retry-After); None for anything else."""
    if text is None:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(parsedate_to_datetime(text).timestamp() - now_ns / NANOSECONDS, 0.0)
    except (ValueError, OverflowError):
        return None


def said(error: Exception) -> str:
    """Return what an error says, or its name where it says nothing."""
    return str(error) or type(error).__name__


class VenueHttp:
    """Ask one venue. A pause that it asks for, and its weight limit, hold for all who were given the same limits."""

    def __init__(
        self, adapter: Adapter, config: LiveConfig, *, clock: Clock, rng: Rng, limits: VenueLimits | None = None
    ) -> None:
        self.on_limited: Callable[[str], None] = _nothing
        """Called with a text whenever the venue asks for a pause."""
        self._adapter = adapter
        self._config = config
        self._clock = clock
        self._rng = rng
        self._url = rest_url(adapter, config)
        self._limits = limits or VenueLimits(clock, adapter.http.weight_per_s)
        self._session: aiohttp.ClientSession | None = None

    async def get(self, request: Request) -> bytes:
        """Return the body of a good answer. Raises Recoverable (RateLimited among them) or Fatal."""
        what = f"{self._adapter.venue} GET {request.path}"
        await self._limits.take(request.weight)
        try:
            async with self._opened().get(URL(self._url + request.path, encoded=True), allow_redirects=False) as answer:
                body = await self._bounded(answer, what)
        except TimeoutError:
            raise Recoverable(f"{what} was not answered within {self._config.request_timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            raise Recoverable(f"{what} failed: {said(error)}") from error
        headers = {name.lower(): value for name, value in answer.headers.items()}
        self._pace(headers)
        refused = self._refused(what, answer.status, headers, body)
        if refused is None:
            return body
        if isinstance(refused, RateLimited):
            self._limits.pause(refused.pause_s)
            self.on_limited(f"{refused}; next request in {refused.pause_s:g} s")
        raise refused

    def _refused(self, what: str, status: int, headers: Mapping[str, str], body: bytes) -> HuracanError | None:
        """Return why an answer is none; None for a good one, or one with an error that its reader finds."""
        if status != OK:
            text, now_ns = body.decode(errors="replace"), self._clock.now_ns()
            return refusal(what, status, headers, text, config=self._config, now_ns=now_ns)
        match error_in(body):
            case Meaning.RATE_LIMITED, text:
                told = f"{what} was answered {' '.join(text.split())[:_SHOWN_CHARACTERS]}"
                return RateLimited(told, self._config.rate_limited_pause_s)
        return None

    async def until_answered(self, request: Request, failed: OnFailure | None = None) -> bytes:
        """Return the body of a good answer, tried again as `until_read` does."""
        return await self.until_read(request, bytes, failed)

    async def until_read(self, request: Request, read: Callable[[bytes], T], failed: OnFailure | None = None) -> T:
        """Return what is read of the body of a good answer, tried again with back-off; `read` may raise Recoverable.

        Raises Fatal when refused, and Recoverable once `answer_within_s` is over; with `failed`, which hears of each
        failure, it is tried for ever.
        """
        within_s = self._config.answer_within_s
        name = f"{self._adapter.venue} {self._config.symbol}.request"
        backoff, last = retries(self._config, self._rng, name), "it is still waited for"
        try:
            async with asyncio.timeout(None if failed else within_s):
                while True:
                    try:
                        return read(await self.get(request))
                    except Recoverable as error:
                        last = str(error)
                        if failed is not None:
                            failed(error, backoff.failures + 1)
                        await backoff.wait()
        except TimeoutError:
            what = f"{self._adapter.venue} GET {request.path}"
            raise Recoverable(f"{what} had no good answer within {within_s:g} s: {last}") from None

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        await self.aclose()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(
                    total=self._config.request_timeout_s, sock_connect=self._config.connect_timeout_s
                )
            )
        return self._session

    async def _bounded(self, answer: aiohttp.ClientResponse, what: str) -> bytes:
        body, most = bytearray(), self._config.max_body_bytes
        async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
            body += chunk
            if len(body) > most:
                answer.close()
                raise Fatal(f"{what} was answered with more than max_body_bytes, {most}; raise it if that is expected")
        return bytes(body)

    def _pace(self, headers: Mapping[str, str]) -> None:
        used = self._adapter.http.used(headers)
        if used is not None:
            self._limits.slow_to((1 - used) / (1 - _MUCH_USED))


def _nothing(_: str) -> None: ...
