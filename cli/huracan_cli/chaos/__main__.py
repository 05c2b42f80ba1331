"""`python -m huracan_cli.chaos`: several seeds, their ledgers in a file."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import structlog

from huracan_cli.chaos.run import run_chaos


def main() -> None:
    """Run several seeds and write `out/chaos/simulation.json`; exit 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description="Seeded faults against the whole system, on virtual time.")
    parser.add_argument("--seed", type=int, help="repeat this one seed")
    parser.add_argument("--runs", type=int, default=25, help="seeds to run, from 1 on")
    parser.add_argument("--faults", type=int, default=40, help="faults in each run")
    parser.add_argument("--out", type=Path, default=Path("out/chaos"), help="directory for the ledgers")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
    seeds = [arguments.seed] if arguments.seed is not None else range(1, arguments.runs + 1)
    ledgers = [run_chaos(seed, arguments.faults) for seed in seeds]
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "simulation.json"
    path.write_text(json.dumps([asdict(ledger) for ledger in ledgers], indent=1) + "\n", encoding="utf-8")
    for ledger in ledgers:
        faults = sum(ledger.faults.values())
        print(f"seed {ledger.seed}: {faults} faults, {ledger.windows} windows, {ledger.orders} orders, {ledger.broken}")
    print(f"{sum(not ledger.broken for ledger in ledgers)} of {len(ledgers)} runs kept every promise; {path}")
    if any(ledger.broken for ledger in ledgers):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
