"""A page of HTML that needs nothing else: how every report of ours looks, on a desk or a phone, by day or night."""

from __future__ import annotations

import html

_STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --ink: #16202b; --muted: #5b6875; --grid: #dfe4ea;
  --good: #1a7f37; --bad: #c4372c; --accent: #2563eb; --warn: #fff3cd; --warn-ink: #6b4e00 }
@media (prefers-color-scheme: dark) { :root { --page: #0f141a; --card: #182029; --ink: #e8edf2; --muted: #9aa8b5;
  --grid: #2d3844; --good: #4cc76b; --bad: #ff7b72; --accent: #6ea8fe; --warn: #4a3b0a; --warn-ink: #ffe08a } }
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.55 system-ui, sans-serif }
main { max-width: 66rem; margin: 0 auto; padding: 1.5rem 1rem 4rem }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .2rem 0 .4rem; overflow-wrap: anywhere }
h2 { font-size: 1.15rem; margin: 0 0 .2rem }
h3 { font-size: .85rem; margin: 0 0 .3rem; color: var(--muted); font-weight: 600 }
p { margin: .2rem 0 .8rem; color: var(--muted) }
.brand { letter-spacing: .14em; text-transform: uppercase; font-size: .75rem; color: var(--accent); font-weight: 700 }
.badge { display: inline-block; border: 1px solid var(--grid); border-radius: 1rem; padding: .05rem .7rem;
  margin: 0 .3rem .3rem 0; font-size: .8rem; color: var(--muted) }
.simulated { background: var(--warn); color: var(--warn-ink); border-radius: .6rem; padding: .6rem 1rem }
.cards { display: grid; gap: .8rem; margin: 1rem 0; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)) }
.tables { columns: 16rem; column-gap: 2rem } .tables div { break-inside: avoid; margin-bottom: 1rem }
.card, section { background: var(--card); border: 1px solid var(--grid); border-radius: .8rem }
.card { padding: .7rem .9rem; overflow: hidden }
.card b { display: block; font-size: 1.3rem; line-height: 1.35; font-variant-numeric: tabular-nums }
.card span { color: var(--muted); font-size: .8rem; overflow-wrap: anywhere }
section { padding: 1.1rem 1.2rem; margin: 1rem 0 }
summary { cursor: pointer; font-weight: 600; margin: 1.2rem 0 .4rem }
.plot { overflow-x: auto } svg { display: block; width: 100%; min-width: 40rem; height: auto }
svg * { stroke-linejoin: round; stroke-linecap: butt } svg text { font-family: system-ui, sans-serif !important }
table { border-collapse: collapse; width: 100%; font-size: .88rem }
th { padding: .2rem 0; text-align: right; vertical-align: bottom; color: var(--muted); font-weight: 600;
  border-bottom: 1px solid var(--grid) }
th:first-child { text-align: left } th + th { padding-left: 1rem }
table.figures td { white-space: nowrap; overflow-wrap: normal }
table.figures .words { white-space: normal; text-align: left }
td small { display: block; color: var(--muted) }
td { padding: .2rem 0; border-bottom: 1px solid var(--grid); vertical-align: top }
td + td { text-align: right; padding-left: 1rem; font-variant-numeric: tabular-nums; overflow-wrap: anywhere }
.good { color: var(--good) } .bad { color: var(--bad) }
"""


def page(title: str, body: str) -> str:
    """Return a whole page around a body of HTML; the title is plain text."""
    head = (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>Huracan: {html.escape(title)}</title><style>{_STYLE}</style></head>"
    )
    return f"{head}<body><main>{body}</main></body></html>\n"


def section(title: str, text: str, picture: str = "") -> str:
    """Return a box with a title and a paragraph, both plain text, and a picture: an SVG or other HTML."""
    plot = f"<div class='plot'>{picture}</div>" if picture else ""
    return f"<section><h2>{html.escape(title)}</h2><p>{html.escape(text)}</p>{plot}</section>"


def card(title: str, value: str, note: str, mood: str = "") -> str:
    """Return a number to be seen from afar, plain text, with what it is and a note; mood: `good`, `bad` or neither."""
    text, below = html.escape(value), html.escape(note)
    return f"<div class='card'><span>{html.escape(title)}</span><b class='{mood}'>{text}</b><span>{below}</span></div>"
