"""`python -m huracan_cli.chaos`: several seeds of both parts, their ledgers in files."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import structlog

from huracan.errors import HuracanError
from huracan.service.loop import new_event_loop
from huracan_cli.chaos.ledger import NOTHING_SHOWN, Ledger, run_ledger
from huracan_cli.chaos.run import run_chaos

SIMULATION, LEDGER = "simulation", "ledger"
CANNOT_RUN = 2
"""Exit code where a server cannot be had, or a run could not be made."""
STOPPED = 130
"""Exit code after Ctrl-C or SIGTERM."""


def main() -> None:
    """Run several seeds and write `simulation.json` and `ledger-<seed>.json`; exit 1 when a promise was broken."""
    parser = argparse.ArgumentParser(
        description="Seeded faults against the whole system: on virtual time, and on real processes and servers."
    )
    parser.add_argument("--part", choices=[SIMULATION, LEDGER], help="this part alone")
    parser.add_argument("--seed", type=int, help="repeat this one seed")
    parser.add_argument("--runs", type=int, default=25, help="seeds to run on virtual time, from 1 on")
    parser.add_argument("--faults", type=int, default=40, help="faults in each run on virtual time")
    parser.add_argument("--ledgers", type=int, default=3, help="seeds to run on real servers, from 1 on")
    parser.add_argument("--out", type=Path, default=Path("out/chaos"), help="directory for the ledgers")
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
    given.out.mkdir(parents=True, exist_ok=True)
    broken = False
    if given.part != LEDGER:
        broken |= _simulated(_seeds(given.seed, given.runs), given.faults, given.out)
    if given.part != SIMULATION:
        try:
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                broken |= runner.run(_struck(_seeds(given.seed, given.ledgers), given.out))
        except (KeyboardInterrupt, asyncio.CancelledError):
            print("stopped, and everything that was started with it")
            raise SystemExit(STOPPED) from None
    if broken:
        raise SystemExit(1)


def _seeds(seed: int | None, runs: int) -> Sequence[int]:
    return [seed] if seed is not None else range(1, runs + 1)


def _simulated(seeds: Sequence[int], faults: int, out: Path) -> bool:
    """Run seeds on virtual time and return whether a promise was broken."""
    ledgers = []
    for seed in seeds:
        ledgers.append(ledger := run_chaos(seed, faults))
        total, broken = sum(ledger.faults.values()), ledger.broken
        print(f"seed {seed}: {total} faults, {ledger.windows} windows, {ledger.orders} orders, {broken}", flush=True)
    path = out / f"{SIMULATION}.json"
    path.write_text(json.dumps([asdict(ledger) for ledger in ledgers], indent=1) + "\n", encoding="utf-8")
    print(f"{sum(not ledger.broken for ledger in ledgers)} of {len(ledgers)} runs kept every promise; {path}")
    return any(ledger.broken for ledger in ledgers)


async def _struck(seeds: Sequence[int], out: Path) -> bool:
    """Run seeds on real servers and return whether a number was lost, doubled or out of order."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    ledgers = []
    for seed in seeds:
        print(f"ledger, seed {seed}: real servers are started and struck", flush=True)
        try:
            ledger = await run_ledger(seed, on_strike=lambda strike: print(f"  {strike}", flush=True))
        except HuracanError as error:
            print(f"ledger, seed {seed}: {error}", flush=True)
            raise SystemExit(CANNOT_RUN) from None
        ledgers.append(ledger)
        path = out / f"{LEDGER}-{seed}.json"
        path.write_text(json.dumps(asdict(ledger), indent=1) + "\n", encoding="utf-8")
        for broken in ledger.broken:
            print(f"  BROKEN: {broken}")
        for unshown in ledger.unshown:
            print(f"  of this seed alone, {unshown}")
        print(_line(ledger), path, flush=True)
    kept, faults = sum(not ledger.broken for ledger in ledgers), sum(sum(each.faults.values()) for each in ledgers)
    print(f"{kept} of {len(ledgers)} ledgers have every number exactly once and in order, over {faults} faults")
    return _shows_no_fill(ledgers) or kept < len(ledgers)


def _shows_no_fill(ledgers: Sequence[Ledger]) -> bool:
    """Say it where no seed had a fill, and return whether that breaks the run: one seed alone may have none."""
    if any(ledger.fills for ledger in ledgers):
        return False
    print(f"{'fills' if len(ledgers) == 1 else 'BROKEN: fills'}: {NOTHING_SHOWN}")
    return len(ledgers) > 1


def _line(ledger: Ledger) -> str:
    return (
        f"ledger, seed {ledger.seed}: {sum(ledger.faults.values())} faults; {ledger.ticks} ticks, {ledger.decisions} "
        f"decisions, {ledger.fills} fills: {ledger.lost} lost, {ledger.duplicated} doubled, "
        f"{ledger.out_of_order} out of order;"
    )


if __name__ == "__main__":
    main()
