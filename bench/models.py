"""Nets of this release as FP32, INT8, pruned, and both: file, latency, throughput and memory, side by side in one run.

Run by `.venv/training/bin/python`; needs no data. How good each is, on bars that it had not seen, is what the bundle's
manifest says. The INT8 of an unpruned net is made here, its ranges told from noise: as large and fast as that of data.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from huracan.expert.order_flow import int8_of, load_order_flow
from huracan.features.micro import MICRO
from huracan.features.regimes import REGIMES
from huracan.features.routing import FILE as ROUTES
from huracan.features.routing import MONOLITH, net_of, read_routes
from huracan.inference.bundle import Bundle, load_bundle
from huracan.inference.engine import FP32, INT8_CPU, OnnxEngine, session_of
from huracan_training.chance import generator  # type: ignore[import-not-found]
from huracan_training.models.artefacts import REFERENCE  # type: ignore[import-not-found]

BUNDLES = Path(__file__).resolve().parents[1] / "training" / "bundles"
ALONE, TOGETHER = 1, 64
"""Windows at once: as they come, and as many as fill a batch."""
CALLS = {ALONE: 100, TOGETHER: 5}
"""In a round, of each variant."""
WARM_UP = 50
CALIBRATION = 64
P50_MS, P99_MS, SHARE, TIMES = 0.1, 1.0, 0.25, 3.0
"""What is wanted: latency at batch 1 below the first two, the file at most this share of FP32's, this many times its
windows a second at batch 64."""
STATM = Path("/proc/self/statm")
"""Where Linux says how large a process is, in pages."""

Windows = NDArray[np.float32]


@dataclass(slots=True)
class Variant:
    """One way to serve a net, and how long its calls took."""

    name: str
    model: bytes
    session: Any
    memory_bytes: int | None
    took_ns: dict[int, list[int]] = field(default_factory=lambda: {size: [] for size in CALLS})
    worked_ns: dict[int, list[int]] = field(default_factory=lambda: {size: [] for size in CALLS})
    """Processor time of the same calls: without what neighbours took in between."""

    def latency_ms(self, quantile: float) -> float:
        """Return a quantile of the time of a call with one window."""
        return float(np.quantile(self.took_ns[ALONE], quantile)) / 1e6

    def work_ms(self, quantile: float) -> float:
        """Return a quantile of the processor time of a call with one window."""
        return float(np.quantile(self.worked_ns[ALONE], quantile)) / 1e6

    def windows_per_s(self) -> float:
        """Return how many windows a second it takes, 64 at once, by the median call."""
        return TOGETHER / float(np.median(self.took_ns[TOGETHER])) * 1e9


def models_of(bundle: Bundle) -> dict[str, bytes]:
    """Return the variants of the net of a bundle, FP32 first."""
    from huracan_training.optimise.quantising import quantised  # type: ignore[import-not-found]

    contents = bundle.contents
    reference = contents.get(REFERENCE, contents[FP32])
    noise = windows_of(bundle, CALIBRATION)
    found = {"fp32": reference, "int8": quantised(reference, noise, INT8_CPU)}
    if "pruned_int8.bytes" in bundle.manifest.metrics:
        return found | {"pruned": contents[FP32], "pruned_int8": contents[INT8_CPU]}
    return found | ({"int8": contents[INT8_CPU]} if INT8_CPU in contents else {})


def windows_of(bundle: Bundle, count: int) -> Windows:
    """Return windows of noise of the shape that a bundle's engine is fed, shape (count, columns, rows)."""
    shape = (count, len(bundle.manifest.columns), bundle.manifest.window)
    return np.asarray(generator(0, "windows").standard_normal(shape), dtype=np.float32)


def measured(bundle: Bundle, rounds: int) -> list[Variant]:
    """Return the variants of a bundle's net with what their calls took, turn about in every round."""
    variants = [
        Variant(name, model, session_of(model), memory_of([model], windows_of(bundle, TOGETHER)))
        for name, model in models_of(bundle).items()
    ]
    batches = {size: {"windows": windows_of(bundle, size)} for size in CALLS}
    for variant in variants:
        for batch in batches.values():
            for _ in range(WARM_UP):
                variant.session.run(None, batch)
    gc.freeze()
    gc.disable()
    for _ in range(rounds):
        for variant in variants:
            for size, batch in batches.items():
                run, took, worked = variant.session.run, variant.took_ns[size], variant.worked_ns[size]
                for _ in range(CALLS[size]):
                    worked_ns, began_ns = time.thread_time_ns(), time.perf_counter_ns()
                    run(None, batch)
                    took.append(time.perf_counter_ns() - began_ns)
                    worked.append(time.thread_time_ns() - worked_ns)
    gc.enable()
    return variants


def memory_of(models: Sequence[bytes], windows: Windows) -> int | None:
    """Return how much a process grows when it loads models and asks each about windows; None where none can say."""
    if not STATM.exists():
        return None
    here, there = multiprocessing.Pipe()
    asked = multiprocessing.get_context("fork").Process(target=_grown, args=(models, windows, there), daemon=True)
    asked.start()
    found = here.recv()
    asked.join()
    return int(found)


def _grown(models: Sequence[bytes], windows: Windows, told: Connection) -> None:
    session_of(models[0])  # what the library takes for itself
    before = _resident()
    sessions = [session_of(model) for model in models]
    for session in sessions:
        for batch in (windows[:ALONE], windows):
            session.run(None, {"windows": batch})
    told.send(_resident() - before)


def _resident() -> int:
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True)
class Way:
    """One way to answer windows of all regimes, and how long a window took, from its rows to its probabilities."""

    name: str
    nets: Mapping[str, str]
    """Name of the net by regime; of all the same where nothing is routed."""
    memory_bytes: int | None = None
    took_ns: list[int] = field(default_factory=list)
    ran_ns: list[int] = field(default_factory=list)
    """The runtime alone, as the other tables have it."""
    worked_ns: list[int] = field(default_factory=list)

    @property
    def routes(self) -> bool:
        """Return whether anything is routed."""
        return self.name != MONOLITH

    @property
    def loaded(self) -> list[str]:
        """Return the names of the nets that it needs: the monolith also where it is the fallback."""
        return sorted({MONOLITH, *self.nets.values()})

    @property
    def files(self) -> list[str]:
        """Return the files of these nets."""
        return [int8_of(net) for net in self.loaded]


def ways_of(bundle: Bundle) -> list[Way]:
    """Return one net for all, each regime its own, and what this release does."""
    released = read_routes(bundle.contents[ROUTES], ROUTES).nets
    own = {regime: net_of(regime) for regime in REGIMES}
    ways = {MONOLITH: dict.fromkeys(REGIMES, MONOLITH), "specialists": own, "routed": released}
    return [Way(name, nets) for name, nets in ways.items()]


def windows_of_regimes(bundle: Bundle) -> dict[str, Windows]:
    """Return a window of `micro` of each regime, shape (64, columns of micro), noise but for its mids."""
    calm, wild, _ = read_routes(bundle.contents[ROUTES], ROUTES).cuts
    rows = bundle.manifest.window
    steps, sides = np.ones(rows), np.where(np.arange(rows) % 2, 1.0, -1.0)
    middle = (calm + wild) / 2 / np.sqrt(rows)
    returns = dict(zip(REGIMES, (2 * wild * sides, 0 * steps, middle * steps, middle * sides), strict=True))
    noise = np.asarray(generator(0, "windows").standard_normal((rows, MICRO.columns)), dtype=np.float32)
    found = {}
    for regime, moves in returns.items():
        found[regime] = noise.copy()
        found[regime][:, MICRO.names.index("mid_return_bps")] = moves
    return found


def measured_ways(bundle: Bundle, rounds: int) -> list[Way]:
    """Return the ways to answer with a bundle of routed nets, with what their calls took, turn about in every round."""
    ways, windows = ways_of(bundle), windows_of_regimes(bundle)
    _, view = load_order_flow(bundle.directory)
    routes = read_routes(bundle.contents[ROUTES], ROUTES)
    engines = {file: OnnxEngine(bundle, (file,)) for way in ways for file in way.files}
    for way in ways:
        way.memory_bytes = memory_of([bundle.contents[file] for file in way.files], windows_of(bundle, ALONE))

    def answer(way: Way, window: Windows) -> tuple[OnnxEngine, Windows]:
        regime = REGIMES[routes.regime(window)] if way.routes else REGIMES[0]
        seen, engine = view.windows(window), engines[int8_of(way.nets[regime])]
        if seen is None:
            raise ValueError(f"the window of {regime} says nothing")
        engine.run(seen)
        return engine, seen

    turn_about(ways, list(windows.values()), answer, rounds)
    return ways


def turn_about(
    ways: Sequence[Way],
    windows: Sequence[Windows],
    answer: Callable[[Way, Windows], tuple[OnnxEngine, Windows]],
    rounds: int,
) -> None:
    """Time answers to each window by each way in turns, and the runtime alone on it; the first round warms up."""
    asked = [window for window in windows for _ in range(CALLS[ALONE] // len(windows))]
    gc.freeze()
    gc.disable()
    for turn in range(rounds + 1):
        for way in ways:
            for window in asked:
                worked_ns, began_ns = time.thread_time_ns(), time.perf_counter_ns()
                engine, seen = answer(way, window)
                took_ns, worked_ns = time.perf_counter_ns() - began_ns, time.thread_time_ns() - worked_ns
                began_ns = time.perf_counter_ns()
                engine.logits(seen)
                if turn:
                    way.ran_ns.append(time.perf_counter_ns() - began_ns)
                    way.took_ns.append(took_ns)
                    way.worked_ns.append(worked_ns)
    gc.enable()


def numbers_of(way: Way, bundle: Bundle) -> dict[str, tuple[str, float | None]]:
    """Return what is told of a way, with its unit: scores are of its bundle, the rest was measured."""
    metrics = bundle.manifest.metrics
    found: dict[str, tuple[str, float | None]] = {
        f"log loss, {judged}, {regime}": ("nats", metrics.get(f"{judged}.{regime}.{way.name}"))
        for judged in ("walk_forward", "newest")
        for regime in ("all", *REGIMES)
    }
    return found | {
        "weights": ("1", sum(metrics[f"{net}.weights"] for net in way.loaded)),
        "files": ("bytes", float(sum(len(bundle.contents[file]) for file in way.files))),
        "memory": ("bytes", None if way.memory_bytes is None else float(way.memory_bytes)),
        "net p50, batch 1": ("ms", float(np.quantile(way.ran_ns, 0.5)) / 1e6),
        "net p99, batch 1": ("ms", float(np.quantile(way.ran_ns, 0.99)) / 1e6),
        "latency p50, a window": ("ms", float(np.quantile(way.took_ns, 0.5)) / 1e6),
        "latency p99, a window": ("ms", float(np.quantile(way.took_ns, 0.99)) / 1e6),
        "processor time p99, a window": ("ms", float(np.quantile(way.worked_ns, 0.99)) / 1e6),
    }


def print_ways(name: str, ways: Sequence[Way], bundle: Bundle) -> None:
    """Print what routing gains, with the interval of each regime's own net over the monolith, and what it costs."""
    told = {way.name: numbers_of(way, bundle) for way in ways}
    print(f"{name:40}{''.join(f'{way:>14}' for way in told)}   specialists over monolith, 95 %")  # noqa: T201
    for what, (unit, _) in told[MONOLITH].items():
        factor, digits, as_unit = SHOWN[unit]
        values = (numbers[what][1] for numbers in told.values())
        cells = "".join(f"{'-' if each is None else f'{each * factor:,.{digits}f}':>14}" for each in values)
        print(f"  {what + as_unit:38}{cells}{_gain_of(what, bundle)}")  # noqa: T201
    (released,) = (way for way in ways if way.name == "routed")
    for regime, net in released.nets.items():
        print(f"  routed: {regime} is answered by {net}")  # noqa: T201
    for part, row in (("the net alone", "net {}, batch 1"), ("from a window's rows", "latency {}, a window")):
        for quantile, most in (("p50", P50_MS), ("p99", P99_MS)):
            value = told["routed"][row.format(quantile)][1] or 0.0
            held = "held" if value < most else "MISSED"
            print(f"  {held}: routed, {part}, {quantile} {value:.3f} ms < {most} ms")  # noqa: T201


SHOWN = {"nats": (1.0, 4, ""), "1": (1.0, 0, ""), "bytes": (1e-3, 1, ", KB"), "ms": (1.0, 3, ", ms")}
"""By unit: factor, digits, and what the row is called besides."""


def _gain_of(what: str, bundle: Bundle) -> str:
    if not what.startswith("log loss"):
        return ""
    _, judged, regime = what.split(", ")
    low, high = (bundle.manifest.metrics.get(f"{judged}.{regime}.specialists.gain_{end}") for end in ("low", "high"))
    return "" if low is None or high is None else f"   [{low:+.3f}, {high:+.3f}]"


def rows_of_ways(name: str, ways: Sequence[Way], bundle: Bundle) -> list[dict[str, object]]:
    """Return one row a number, each beside that of the monolith."""
    told = {way.name: numbers_of(way, bundle) for way in ways}
    rows: list[dict[str, object]] = []
    for way, numbers in told.items():
        for what, (unit, value) in numbers.items():
            baseline = told[MONOLITH][what][1]
            if value is not None and baseline is not None:
                row = {"name": f"{name} {way}: {what}", "value": value, "unit": unit, "baseline": baseline}
                rows.append(row | {"ratio": value / baseline if baseline else None})
    return rows


def rows_of(name: str, variants: Sequence[Variant], metrics: Mapping[str, float]) -> list[dict[str, object]]:
    """Return one row a number, each beside that of FP32."""
    rows: list[dict[str, object]] = []
    for variant in variants:
        for what, (unit, number) in NUMBERS.items():
            value, baseline = number(variant, metrics), number(variants[0], metrics)
            if value is None or baseline is None:
                continue
            row = {"name": f"{name} {variant.name}: {what}", "value": value, "unit": unit, "baseline": baseline}
            rows.append(row | {"ratio": value / baseline if baseline else None})
    return rows


def _told(key: str) -> Callable[[Variant, Mapping[str, float]], float | None]:
    return lambda variant, metrics: metrics.get(f"{variant.name}.{key}")


NUMBERS: Mapping[str, tuple[str, Callable[[Variant, Mapping[str, float]], float | None]]] = {
    "log loss": ("nats", _told("log_loss")),
    "macro-F1": ("1", _told("macro_f1")),
    "file": ("bytes", lambda variant, _: len(variant.model)),
    "latency p50, batch 1": ("ms", lambda variant, _: variant.latency_ms(0.5)),
    "latency p99, batch 1": ("ms", lambda variant, _: variant.latency_ms(0.99)),
    "processor time p99, batch 1": ("ms", lambda variant, _: variant.work_ms(0.99)),
    "throughput, batch 64": ("windows/s", lambda variant, _: variant.windows_per_s()),
    "memory": ("bytes", lambda variant, _: variant.memory_bytes),
}
"""What is told of a variant, its unit, and where it comes from; None where it is not known."""


def print_table(name: str, variants: Sequence[Variant], metrics: Mapping[str, float]) -> None:
    """Print the variants of one net below each other."""
    print(  # noqa: T201
        f"{name:12} log loss  macro-F1  file, KB  of FP32  p50, ms  p99, ms  p99, own  windows/s  of FP32  memory, MB"
    )
    whole, nan = variants[0], float("nan")
    for each in variants:
        loss, f1 = metrics.get(f"{each.name}.log_loss", nan), metrics.get(f"{each.name}.macro_f1", nan)
        memory = nan if each.memory_bytes is None else each.memory_bytes / 1e6
        print(  # noqa: T201
            f"{each.name:12} {loss:8.4f}  {f1:8.4f}  {len(each.model) / 1000:8.1f}  "
            f"{len(each.model) / len(whole.model):7.0%}  {each.latency_ms(0.5):7.3f}  {each.latency_ms(0.99):7.3f}  "
            f"{each.work_ms(0.99):8.3f}  "
            f"{each.windows_per_s():9,.0f}  {each.windows_per_s() / whole.windows_per_s():6.2f}x  "
            f"{memory:10.1f}"
        )


def print_claims(variants: Sequence[Variant]) -> None:
    """Print what is wanted of the last variant, and whether it is reached."""
    last, whole = variants[-1], variants[0]
    share, times = len(last.model) / len(whole.model), last.windows_per_s() / whole.windows_per_s()
    for told, held in (
        (f"p50 {last.latency_ms(0.5):.3f} ms < {P50_MS} ms", last.latency_ms(0.5) < P50_MS),
        (
            f"p99 {last.latency_ms(0.99):.3f} ms < {P99_MS} ms, own {last.work_ms(0.99):.3f}",
            last.latency_ms(0.99) < P99_MS,
        ),
        (f"file {share:.0%} of FP32, at most {SHARE:.0%}", share <= SHARE),
        (f"throughput {times:.2f} times FP32, at least {TIMES:g}", times >= TIMES),
    ):
        print(f"  {'held' if held else 'MISSED'}: {last.name}, {told}")  # noqa: T201


def main() -> None:
    """Measure every bundle, print a table of each and write all numbers as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, action="append", help="a bundle of a net; those of this release without")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("out/bench/models.json"))
    given = parser.parse_args()
    load = os.getloadavg()[0]
    rows: list[dict[str, object]] = []
    for directory in given.bundle or sorted(each.parent for each in BUNDLES.glob("*/manifest.json")):
        bundle = load_bundle(directory)
        if ROUTES in bundle.contents:
            ways = measured_ways(bundle, given.rounds)
            print_ways(directory.name, ways, bundle)
            rows += rows_of_ways(directory.name, ways, bundle)
            continue
        if FP32 not in bundle.contents:
            print(f"{directory.name} has no {FP32}, and is not measured")  # noqa: T201
            continue
        variants = measured(bundle, given.rounds)
        metrics = bundle.manifest.metrics
        print_table(directory.name, variants, metrics)
        print_claims(variants)
        rows += rows_of(directory.name, variants, metrics)
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    told = {"machine": machine, "load": load, "rows": rows}
    given.out.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
