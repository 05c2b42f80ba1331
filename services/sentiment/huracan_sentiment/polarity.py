"""Polarity of a headline: VADER, with words of the market that a lexicon of everyday speech does not know."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.metadata import version

WORDS: dict[str, float] = {
    "accumulate": 1.0, "accumulates": 1.0, "accumulation": 1.0, "adoption": 1.2, "approval": 1.5,
    "approve": 1.5, "approved": 1.5, "approves": 1.5, "backdoor": -1.5, "ban": -2.0, "bankrupt": -3.0,
    "bankruptcy": -3.0, "banned": -2.0, "bans": -2.0, "bear": -1.2, "bearish": -2.2, "bounce": 1.0,
    "breach": -2.0, "breakout": 1.5, "bull": 1.2, "bullish": 2.2, "capitulation": -2.0, "climb": 1.2,
    "climbs": 1.2, "collapse": -3.0, "collapsed": -3.0, "collapses": -3.0, "correction": -1.2,
    "crackdown": -2.0, "decline": -1.2, "declines": -1.2, "default": -2.0, "defaults": -2.0, "delist": -2.0,
    "delisted": -2.0, "delisting": -2.0, "dovish": 1.2, "downgrade": -1.8, "downgraded": -1.8,
    "downtrend": -1.5, "downturn": -1.8, "drain": -1.5, "drained": -2.0, "drop": -1.2, "drops": -1.2,
    "dump": -2.0, "dumps": -2.0, "etf": 0.3, "exploit": -2.2, "exploited": -2.2, "exploits": -2.2,
    "fall": -1.2, "falls": -1.2, "fine": -1.2, "fined": -1.8, "gain": 1.5, "gains": 1.5, "hack": -2.5,
    "hacked": -2.8, "hacker": -2.0, "hackers": -2.0, "hacks": -2.5, "halt": -1.5, "halts": -1.5,
    "halving": 0.5, "hawkish": -1.2, "high": 0.5, "inflow": 1.5, "inflows": 1.5, "insolvency": -3.0,
    "insolvent": -3.0, "investigation": -1.5, "launch": 0.6, "launches": 0.6, "lawsuit": -1.8,
    "layoffs": -1.8, "liquidated": -1.8, "liquidation": -1.8, "liquidations": -1.8, "low": -0.5,
    "lows": -1.0, "outage": -1.8, "outflow": -1.5, "outflows": -1.5, "outperform": 1.5, "outperforms": 1.5,
    "partnership": 1.2, "plummet": -2.8, "plummets": -2.8, "plunge": -2.8, "plunges": -2.8, "probe": -1.2,
    "pump": 1.0, "rallies": 2.0, "rally": 2.0, "rebound": 1.5, "rebounds": 1.5, "recession": -2.0,
    "record": 0.8, "recover": 1.2, "recovers": 1.2, "recovery": 1.2, "reject": -1.5, "rejected": -1.5,
    "rejection": -1.5, "rejects": -1.5, "resistance": -0.3, "rise": 1.2, "rises": 1.2, "rout": -2.2,
    "rug": -1.5, "rugpull": -2.8, "sanction": -1.5, "sanctions": -1.5, "selloff": -2.2, "slide": -1.5,
    "slides": -1.5, "slump": -2.2, "slumps": -2.2, "soar": 2.5, "soars": 2.5, "spike": 0.8, "sue": -1.5,
    "sued": -1.5, "sues": -1.5, "surge": 2.2, "surges": 2.2, "tumble": -2.2, "tumbles": -2.2,
    "upgrade": 1.5, "upgraded": 1.5, "upgrades": 1.5, "uptrend": 1.5, "volatile": -0.5, "whale": 0.2,
}  # fmt: skip
"""Our own weights for headlines about markets, on VADER's scale from -4 to 4. Written for Huracan, not
fitted."""

Polarity = Callable[[str], float]


def polarity_of_headlines() -> Polarity:
    """Return a function from headline to polarity in [-1, 1]: VADER's compound score (Hutto & Gilbert
    2014)."""
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer  # only the builder needs it

    analyser = SentimentIntensityAnalyzer()
    analyser.lexicon.update(WORDS)

    def polarity(title: str) -> float:
        return float(analyser.polarity_scores(title)["compound"])

    return polarity


def lexicon_digest() -> bytes:
    """Return the SHA-256 of what polarity depends on: VADER's release and our words."""
    words = ",".join(f"{word}={weight}" for word, weight in sorted(WORDS.items()))
    return hashlib.sha256(f"vaderSentiment {version('vaderSentiment')};{words}".encode()).digest()
