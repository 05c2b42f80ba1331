"""The state of a system that runs, as commands find it."""

from __future__ import annotations

import os

from pydantic import SecretStr

from huracan_cli.state import RunState


def run_state(**told: object) -> RunState:
    """Return the state of a system in this process, with what else is told of it."""
    usual = {
        "pid": os.getpid(),
        "started_ns": 1,
        "source": "test",
        "simulated": False,
        "instrument": "sim.btc",
        "layout": "seven",
        "nats_url": "",
        "nats_user": None,
        "passwords": {},
        "postgres_url": SecretStr(""),
        "http_ports": {},
    }
    return RunState.model_validate(usual | told)
