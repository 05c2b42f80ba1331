"""One client for a venue's REST interface: paced, bounded, and split by what can be done about a failure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Self

import aiohttp
from yarl import URL

from huracan.bus.outbox import Backoff
from huracan.clock import NANOSECONDS
from huracan.errors import Fatal, HuracanError, Recoverable
from huracan.ports import Clock, Rng
from huracan_gateway.adapter import Adapter, Request
from huracan_gateway.live.config import LiveConfig
from huracan_gateway.live.limits import TokenBucket

OK = 200
TOO_MANY = frozenset({403, 418, 429})
"""Statuses that say to wait: 429 too many requests, 418 banned for a while (Binance), 403 refused by the firewall that
guards against both (Binance "Limits", Bybit "Rate Limit Rules")."""
_TRY_AGAIN = frozenset({408, 425})
_BURST_S = 5.0
"""Seconds of the rate that may be spent at once: a book and its trades."""
_MUCH_USED = 0.8
"""Above this share of the venue's limit, which others behind the same address spend too, requests slow down."""
_FIRST_RETRY_MS = 100.0
"""OKX takes three connections a second from one address ("Connection limit")."""
_MEAN_WAIT = 0.75
"""Of the longest, in the long run: the upper half is drawn from."""
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
        pause_s = _retry_after_s(headers.get("retry-after"), now_ns)
        return RateLimited(told, config.rate_limited_pause_s if pause_s is None else pause_s)
    if status >= 500 or status in _TRY_AGAIN or status < 300:
        return Recoverable(told)
    return Fatal(f"{told}; check symbol and addresses, and whether the venue serves this region")


def retries(config: LiveConfig, rng: Rng, name: str) -> Backoff:
    """Return how a venue is tried again that has failed: soon, then ever later, down to `connects_per_minute`."""
    longest_ms = 60_000 / config.connects_per_minute / _MEAN_WAIT
    return Backoff(rng, name, first_ms=min(_FIRST_RETRY_MS, longest_ms), longest_ms=longest_ms)


def _retry_after_s(text: str | None, now_ns: int) -> float | None:
    """Read seconds or a date (RFC 9110, Retry-After); None for anything else."""
    if text is None:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(parsedate_to_datetime(text).timestamp() - now_ns / NANOSECONDS, 0.0)
    except ValueError:
        return None


def said(error: Exception) -> str:
    """Return what an error says, or its name where it says nothing."""
    return str(error) or type(error).__name__


class VenueHttp:
    """Ask one venue. A pause that it asks for, and its weight limit, hold for every request made here."""

    def __init__(self, adapter: Adapter, config: LiveConfig, *, clock: Clock, rng: Rng) -> None:
        self.on_limited: Callable[[str], None] = _nothing
        """Called with a text whenever the venue asks for a pause."""
        self._adapter = adapter
        self._config = config
        self._clock = clock
        self._rng = rng
        self._url = (config.rest_url or adapter.http.url).rstrip("/")
        self._bucket = TokenBucket(
            clock, per_s=adapter.http.weight_per_s, burst=max(adapter.http.weight_per_s * _BURST_S, 1.0)
        )
        self._session: aiohttp.ClientSession | None = None
        self._allowed_s = 0.0

    async def get(self, request: Request) -> bytes:
        """Return the body of a good answer. Raises Recoverable (RateLimited among them) or Fatal."""
        what = f"{self._adapter.venue} GET {request.path}"
        await self._bucket.take(request.weight)
        await self._until_allowed()
        try:
            async with self._opened().get(URL(self._url + request.path, encoded=True), allow_redirects=False) as answer:
                body = await self._bounded(answer, what)
        except TimeoutError:
            raise Recoverable(f"{what} was not answered within {self._config.request_timeout_s:g} s") from None
        except aiohttp.ClientError as error:
            raise Recoverable(f"{what} failed: {said(error)}") from error
        headers = {name.lower(): value for name, value in answer.headers.items()}
        self._pace(headers)
        if answer.status == OK:
            return body
        text, now_ns = body.decode(errors="replace"), self._clock.now_ns()
        refused = refusal(what, answer.status, headers, text, config=self._config, now_ns=now_ns)
        if isinstance(refused, RateLimited):
            self._allowed_s = max(self._allowed_s, asyncio.get_running_loop().time() + refused.pause_s)
            self.on_limited(f"{refused}; next request in {refused.pause_s:g} s")
        raise refused

    async def until_answered(self, request: Request, failed: OnFailure | None = None) -> bytes:
        """Return the body of a good answer, tried again with back-off.

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
                        return await self.get(request)
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

    async def _until_allowed(self) -> None:
        loop = asyncio.get_running_loop()
        while (left_s := self._allowed_s - loop.time()) > 0:  # noqa: ASYNC110 - another answer may prolong it
            await asyncio.sleep(left_s)

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
            self._bucket.slow_to((1 - used) / (1 - _MUCH_USED))


def _nothing(_: str) -> None: ...
