"""Run a process: `python -m huracan.service --config regime.json`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

import structlog
from pydantic import ValidationError
from structlog.typing import Processor

from huracan.errors import BadInput, HuracanError
from huracan.service.loop import new_event_loop
from huracan.service.process import STOP_SIGNALS, Process, failures, first_fault
from huracan.service.settings import ProcessSettings, load

FAILED, UNUSABLE = 1, 2
"""Exit codes: a service failed and may be started again; what was given cannot be used until somebody changes it."""


def main(arguments: list[str] | None = None) -> int:
    """Host services until they are done; return 0, 1 when one failed, 2 when what was given cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m huracan.service", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="JSON file of the process's settings")
    parser.add_argument("--print-config", action="store_true", help="print the settings, secrets masked, and exit")
    given = parser.parse_args(arguments)
    try:
        process = Process(load(given.config))
    except (OSError, ValueError, BadInput) as error:
        print(f"config {given.config}: {_told(error)}", file=sys.stderr)  # noqa: T201 - before there is a log
        return UNUSABLE
    if given.print_config:
        print(process.settings.model_dump_json(indent=2))  # noqa: T201 - what was asked for
        return 0
    _log(process.settings)
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(process.run())
    except (BaseExceptionGroup, HuracanError) as error:
        failed = list(failures(error))
        told = [f"{type(failure).__name__}: {failure}" for failure in failed]
        structlog.get_logger().error("process.failed", services=list(process.settings.services), errors=told)
        return UNUSABLE if all(isinstance(failure, BadInput) for failure in failed) else FAILED
    return 0


def _told(error: Exception) -> str:
    """Return in one line what is wrong with the settings."""
    if isinstance(error, ValidationError):
        return first_fault(error)
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error).replace("\n", " ")


def _log(settings: ProcessSettings) -> None:
    """Log to stderr, what libraries say included: JSON for machines, colours for people."""
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendered: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if settings.log_format == "json"
        else [
            # The default would show the local variables of every frame, and there may be secrets in them.
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    )
    structlog.configure(
        processors=before + rendered,
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    libraries = logging.StreamHandler(sys.stderr)
    libraries.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
        )
    )
    logging.basicConfig(handlers=[libraries], level=logging.WARNING, force=True)
    logging.captureWarnings(capture=True)


if __name__ == "__main__":
    exit_code = main()
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # the interpreter's end puts the default back for anything but this
    sys.exit(exit_code)
