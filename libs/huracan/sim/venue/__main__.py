"""Run venues as a process: `python -m huracan.sim.venue --config venue.json`; its first line says the port."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

from pydantic import ValidationError

from huracan.clock import SystemClock
from huracan.errors import BadInput
from huracan.service.loop import new_event_loop
from huracan.sim.venue.settings import VenueSettings, server

UNUSABLE = 2
"""Exit code: what was given cannot be used until somebody changes it."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; return 0, or 2 when what was given cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m huracan.sim.venue", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="JSON file of the settings")
    given = parser.parse_args(arguments)
    try:
        settings = VenueSettings.model_validate_json(given.config.read_bytes())
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_serve(settings))
    except (OSError, BadInput, ValidationError) as error:
        print(f"config {given.config}: {_told(error)}", file=sys.stderr)  # noqa: T201 - this process has no log
        return UNUSABLE
    return 0


async def _serve(settings: VenueSettings) -> None:
    venues, loop = server(settings, SystemClock()), asyncio.get_running_loop()
    async with venues:
        serving = asyncio.create_task(venues.serve())
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, serving.cancel)
        print(json.dumps({"port": venues.port}), flush=True)  # noqa: T201 - what whoever started it waits for
        await asyncio.wait([serving])
        if not serving.cancelled():
            serving.result()


def _told(error: Exception) -> str:
    """Return in one line what is wrong."""
    if isinstance(error, ValidationError):
        fault = error.errors()[0]
        return f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
