"""The laws of an engine, checked on any engine: what makes its answers replayable, and safe to ask for in batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from huracan.errors import BadInput
from huracan.inference.engine import LARGEST_BATCH, Engine, EngineFault, Windows
from huracan.inference.probabilities import SMALLEST_PROBABILITY, Floats
from huracan.laws import LawBroken, require

TOLERANCE = 1e-5
"""How far a window's probabilities alone and in a batch may be apart.

On ONNX Runtime 1.31 with AVX-512 it is 0: FP32 and static INT8 convolutions gave the same bytes in every batch that was
tried. Kernels that add the same float32 values in another order move logits of up to 20 by about 1e-5, and
probabilities by a quarter of that; a model that scales by its batch moves them by a thousand times as much.
"""
LIMIT = 10.0
"""What outlooks end at on both sides: within it every window is answered."""
_SUM_TOLERANCE = 1e-9
_DIGEST_BYTES = 32
_BATCHES = (2, 8, LARGEST_BATCH)
_DATA_SEED = 8


@dataclass(frozen=True, kw_only=True)
class Case:
    """An engine with the windows that it is asked about."""

    engine: Engine
    tolerance: float
    ordinary: Windows
    """As many as the largest batch holds, of every spread from a hundredth to ten, shape (64, columns, 64)."""
    kept: bytes
    """Their bytes, before anything was asked."""

    @property
    def shape(self) -> tuple[int, int]:
        """Return columns and rows of a window."""
        return self.ordinary.shape[1], self.ordinary.shape[2]

    def extremes(self) -> dict[str, Windows]:
        """Return single windows at the ends of what an outlook gives, by name, shape (1, columns, 64) each."""
        sign = np.where(self.ordinary[:1] > 0, 1, -1).astype(np.float32)
        return {
            "zeros": np.zeros_like(sign),
            "least": np.full_like(sign, -LIMIT),
            "largest": np.full_like(sign, LIMIT),
            "largest of either sign": LIMIT * sign,
            "tiny": np.finfo(np.float32).tiny * sign,
        }

    def ask(self, law: str, name: str, windows: Windows) -> Floats:
        """Return the answer to windows; an exception breaks the law that asked."""
        try:
            return self.engine.run(windows)
        except Exception as error:
            raise LawBroken(law, f"{name} raised {error!r}") from error


def declares_itself(case: Case) -> None:
    """It says what it runs, on what, and under which digest."""
    law, engine = "declares itself", case.engine
    require(len(engine.digest) == _DIGEST_BYTES, law, f"digest was {len(engine.digest)} bytes, not {_DIGEST_BYTES}")
    require(bool(engine.artefact and engine.runtime), law, "artefact or runtime was empty")


def gives_probabilities(case: Case) -> None:
    """To windows as outlooks give them: finite, at least a millionth, at most 1, rows of sum 1."""
    law = "gives probabilities"
    for name, windows in {**case.extremes(), "a full batch": case.ordinary}.items():
        _are_probabilities(case, law, name, len(windows), case.ask(law, name, windows))


def _are_probabilities(case: Case, law: str, name: str, windows: int, answer: Floats) -> None:
    wanted, classes = (windows, case.engine.classes), case.engine.classes
    require(answer.shape == wanted and answer.dtype == np.float64, law, f"{name} got {answer.dtype} {answer.shape}")
    require(bool(np.isfinite(answer).all()), law, f"{name} got values that are not finite")
    least = SMALLEST_PROBABILITY / (1 + classes * SMALLEST_PROBABILITY)
    require(bool(answer.min() >= least and answer.max() <= 1), law, f"{name} got {answer.min()} to {answer.max()}")
    off = float(np.abs(answer.sum(axis=1) - 1).max())
    require(off <= _SUM_TOLERANCE, law, f"{name} got sums off 1 by {off:g}")


def bears_any_finite_values(case: Case) -> None:
    """Values no outlook gives get probabilities or an EngineFault, and the window after them its answer."""
    law, largest = "bears any finite values", np.finfo(np.float32).max
    before = case.ask(law, "a window", case.ordinary[:1]).tobytes()
    for name, value in {"the largest float": largest, "the least float": -largest}.items():
        try:
            answer = case.engine.run(np.full_like(case.ordinary[:1], value))
        except EngineFault:
            pass
        except Exception as error:
            raise LawBroken(law, f"{name} raised {error!r}, not EngineFault") from error
        else:
            _are_probabilities(case, law, name, 1, answer)
        after = case.ask(law, f"the window after {name}", case.ordinary[:1]).tobytes()
        require(after == before, law, f"{name} changed the answer after it")


def tells_windows_apart(case: Case) -> None:
    """Not every window gets the same answer: the other laws would hold of nothing."""
    law = "tells windows apart"
    answers = {case.ask(law, "a window", window).tobytes() for window in _alone(case.ordinary)}
    require(len(answers) > 1, law, "all windows got one answer")


def is_deterministic(case: Case) -> None:
    """The same windows get the same bytes, whatever was asked in between, and are not changed."""
    law, windows = "is deterministic", _alone(case.ordinary)
    first = [case.ask(law, "a window", window).tobytes() for window in windows]
    again = [case.ask(law, "a window", window).tobytes() for window in reversed(windows)]
    require(first == again[::-1], law, "a window got two answers")
    batch = case.ask(law, "a batch", case.ordinary).tobytes()
    require(batch == case.ask(law, "a batch", case.ordinary).tobytes(), law, "a batch got two answers")
    require(case.ordinary.tobytes() == case.kept, law, "the windows were changed")


def does_not_depend_on_its_batch(case: Case) -> None:
    """Alone, and in a batch of 2, 8 or 64, in any place, a window gets the same answer.

    An engine that says it does depend promises nothing here: nobody asks it about two windows at once.
    """
    law = "does not depend on its batch"
    if not case.engine.fixed_batch_result:
        return
    asked = np.concatenate([*case.extremes().values(), case.ordinary])[:LARGEST_BATCH]
    alone = np.concatenate([case.ask(law, "a window", window) for window in _alone(asked)])
    for size in _BATCHES:
        for turn in (0, 1, size // 2, size - 1):
            order = np.roll(np.arange(LARGEST_BATCH), turn)
            for batch in order.reshape(-1, size):
                off = np.abs(case.ask(law, f"a batch of {size}", asked[batch]) - alone[batch]).max()
                require(off <= case.tolerance, law, f"in a batch of {size} probabilities were off by {off:g}")


def refuses_other_windows(case: Case) -> None:
    """Windows of another shape or type, none, too many, or with values that are not finite raise BadInput."""
    columns, rows = case.shape
    window, broken = case.ordinary[:1], case.ordinary[:2].copy()
    broken[1, -1, -1] = np.nan
    endless = case.ordinary[:1].copy()
    endless[0, 0, 0] = np.inf
    _refuses(
        case,
        {
            "a column too many": np.zeros((1, columns + 1, rows), dtype=np.float32),
            "a row too few": window[:, :, 1:],
            "rows for columns": np.zeros((1, rows, columns + 1), dtype=np.float32),
            "a single window": window[0],
            "float64": window.astype(np.float64),
            "no window": window[:0],
            "too many windows": np.zeros((LARGEST_BATCH + 1, columns, rows), dtype=np.float32),
            "a value that is missing": broken,
            "a value without end": endless,
        },
    )


def _refuses(case: Case, refused: Mapping[str, Windows]) -> None:
    law = "refuses other windows"
    for name, windows in refused.items():
        try:
            case.engine.run(windows)
        except BadInput:
            continue
        except Exception as error:
            raise LawBroken(law, f"{name} raised {error!r}, not BadInput") from error
        raise LawBroken(law, f"{name} was answered")


def refuses_other_features(case: Case) -> None:
    """Only the feature set and the columns that it was trained on are taken."""
    law, engine = "refuses other features", case.engine
    digest, columns = bytes.fromhex(engine.manifest.feature_set_digest), engine.manifest.columns
    engine.check_features(digest, columns)
    other = bytes([digest[0] ^ 1, *digest[1:]])
    for name, fed in {
        "another feature set": (other, columns),
        "a column less": (digest, columns[1:]),
        "columns in another order": (digest, columns[1:] + columns[:1]),
    }.items():
        if fed == (digest, columns):
            continue  # a single column has no other order
        try:
            engine.check_features(*fed)
        except BadInput:
            continue
        raise LawBroken(law, f"{name} was taken")


def _alone(windows: Windows) -> list[Windows]:
    return [windows[index : index + 1] for index in range(len(windows))]


LAWS: tuple[Callable[[Case], None], ...] = (
    declares_itself,
    gives_probabilities,
    bears_any_finite_values,
    tells_windows_apart,
    is_deterministic,
    does_not_depend_on_its_batch,
    refuses_other_windows,
    refuses_other_features,
)
"""Every law, in the order in which they are checked."""


def check_engine(engine: Engine, *, tolerance: float = TOLERANCE) -> None:
    """Raise LawBroken when an engine breaks a law; `tolerance` is that of the law about batches."""
    shape = (LARGEST_BATCH, len(engine.manifest.columns), engine.manifest.window)
    ordinary = _spread(shape)
    case = Case(engine=engine, tolerance=tolerance, ordinary=ordinary, kept=ordinary.tobytes())
    for law in LAWS:
        law(case)


def _spread(shape: tuple[int, int, int]) -> Windows:
    values = np.random.Generator(np.random.PCG64(_DATA_SEED)).standard_normal(shape)
    spreads = np.geomspace(0.01, LIMIT, num=shape[0])[:, np.newaxis, np.newaxis]
    windows: Windows = np.clip(values * spreads, -LIMIT, LIMIT).astype(np.float32)
    return windows
