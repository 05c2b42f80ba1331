"""The training loop of nets: it stops early, survives being killed, and ends in the same weights every time."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from huracan.errors import Recoverable
from huracan.store.files import sync_directory
from huracan_training.chance import seed_of
from huracan_training.samples import WINDOW

_JUDGED_BATCH = 1024


class FaultKind(StrEnum):
    """What went wrong in a step."""

    SHAPE = "shape"
    """A layer was fed another shape than it takes."""
    NOT_A_NUMBER = "not_a_number"
    """The loss was not finite."""
    EXPLODING = "exploding"
    """The gradient was not finite or larger than allowed."""
    MEMORY = "memory"
    """The batch did not fit into memory."""


class TrainingFault(Recoverable):
    """Training cannot go on with these settings; others may serve."""

    def __init__(self, kind: FaultKind, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings:
    """How a net is trained."""

    epochs: int = 60
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    batch: int = 256
    """Windows of a step at first."""
    largest_batch: int = 1024
    grow_after: int = 2
    """Double the batch after as many epochs without improvement (Smith et al. 2018); each time it is as many."""
    patience: int = 10
    """Stop after as many epochs without improvement on `valid`."""
    plateau_factor: float = 0.5
    plateau_patience: int = 5
    clip_norm: float = 1.0
    """Longer gradients are scaled down to this norm."""
    exploding_norm: float = 1e3
    """A longer gradient ends the attempt."""
    class_weight_power: float = 0.0
    """Weight classes by share ** -power: 0 is none, 1 makes all count alike. Answers are corrected for it."""
    steps_per_epoch: int | None = None
    """At most as many steps, on windows drawn anew each epoch; None for all windows."""
    averaging: float = 0.0
    """Keep the running mean of the weights in place of the last ones: the share of the mean so far at each step, 0 for
    none (Polyak & Juditsky 1992, with an exponential window)."""
    noise: float = 0.0
    """Standard deviation of what is added to each scaled value of a train window."""
    taught: float = 0.6
    """Share of the loss that is towards what a teacher says, where there is one (Hinton et al. 2015)."""
    time_first: bool = False
    """Feed (batch, 64, columns) rather than (batch, columns, 64)."""
    checkpoint_steps: int = 200
    device: str = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSet:
    """Windows as positions in the rows of all assets, one asset after another."""

    rows: Tensor
    """Scaled, 0 where missing, shape (n, columns)."""
    at: Tensor
    """The last row of each window, shape (m,)."""
    labels: Tensor
    """Shape (m,)."""
    told: Tensor | None = None
    """What a teacher says, probabilities of shape (m, classes); None where there is none."""

    def windows(self, chosen: Tensor) -> Tensor:
        """Return the chosen windows, shape (b, columns, 64)."""
        offsets = torch.arange(1 - WINDOW, 1, device=self.at.device)
        return self.rows[self.at[chosen][:, None] + offsets].transpose(1, 2).contiguous()

    def batches(self, size: int) -> Iterator[Tensor]:
        """Yield all windows in their order, `size` of them at a time."""
        for chosen in torch.split(torch.arange(len(self.at), device=self.at.device), size):
            yield self.windows(chosen)

    def to(self, device: str) -> WindowSet:
        """Return the same windows on a device."""
        told = None if self.told is None else self.told.to(device)
        return WindowSet(rows=self.rows.to(device), at=self.at.to(device), labels=self.labels.to(device), told=told)


class Watch(Protocol):
    """Is told how training goes."""

    def step(self, epoch: int, done: int, steps: int, loss: float) -> None:
        """Take the loss of a step: `done` of `steps` in this epoch."""
        ...

    def epoch(self, epoch: int, train_loss: float, valid_loss: float, batch: int, learning_rate: float) -> None:
        """Take the mean losses of an epoch, in nats, and what comes next."""
        ...


class Unwatched:
    """Say nothing."""

    def step(self, epoch: int, done: int, steps: int, loss: float) -> None:
        """Do nothing."""

    def epoch(self, epoch: int, train_loss: float, valid_loss: float, batch: int, learning_rate: float) -> None:
        """Do nothing."""


@dataclass(slots=True, kw_only=True)
class _Progress:
    """Where training stands; with weights, optimiser, schedule and generator it is all there is to resume."""

    batch: int
    epoch: int = 0
    cursor: int = 0
    step: int = 0
    stale: int = 0
    since_grown: int = 0
    best_loss: float = float("inf")
    loss_sum: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How training ended."""

    epochs: int
    steps: int
    valid_loss: float
    """Log loss on `valid` of the weights that were kept, in nats."""
    batch: int
    class_weights: tuple[float, ...]


@contextmanager
def deterministic(device: str = "cpu") -> Iterator[None]:
    """Count on one thread by deterministic algorithms, and leave torch as it was found."""
    threads, before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        with torch.random.fork_rng(devices=[] if device == "cpu" else None):
            yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.set_num_threads(threads)


def weights_digest(net: nn.Module) -> str:
    """Return the SHA-256 of all weights and buffers by name."""
    digest = hashlib.sha256()
    for name, value in sorted(net.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()


class Training:
    """Train one net: cross-entropy, AdamW, the learning rate halved on plateaus, the best weights on `valid` kept.

    Given a room, a directory, the state is written there every `checkpoint_steps` steps and after each epoch, in a
    file named for settings, seed, net and data; run again after kill -9 it goes on from there and ends in the same
    weights. The order of batches follows from seed and epoch, so that the position in it is all that is kept.
    """

    def __init__(
        self,
        net: nn.Module,
        train: WindowSet,
        valid: WindowSet,
        settings: LoopSettings,
        *,
        classes: int,
        seed: int,
        room: Path | None = None,
        watch: Watch | None = None,
    ) -> None:
        self._net = net.to(settings.device)
        self._train, self._valid = train.to(settings.device), valid.to(settings.device)
        self._settings = settings
        self._seed = seed
        self._watch = watch or Unwatched()
        self._optimiser = torch.optim.AdamW(
            net.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self._schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self._optimiser, factor=settings.plateau_factor, patience=settings.plateau_patience
        )
        self._judged = copy.deepcopy(self._net) if settings.averaging else self._net
        """What is judged and kept: the net, or the running mean of its weights."""
        self._progress = _Progress(batch=min(settings.batch, settings.largest_batch))
        self._best = self._weights()
        self._class_weights = self._weigh(classes)
        self._checkpoint = None if room is None else room / f"checkpoint-{self._fingerprint()[:16]}.pt"

    def run(self) -> Outcome:
        """Train to the end and leave the best weights in the net; raise TrainingFault when it cannot go on."""
        torch.manual_seed(seed_of(self._seed, "dropout"))
        self._resume()
        while self._progress.epoch < self._settings.epochs and self._progress.stale < self._settings.patience:
            self._run_epoch()
        self._net.load_state_dict(self._best)
        progress = self._progress
        return Outcome(
            epochs=progress.epoch,
            steps=progress.step,
            valid_loss=progress.best_loss,
            batch=progress.batch,
            class_weights=tuple(self._class_weights.tolist()),
        )

    def _weigh(self, classes: int) -> Tensor:
        counts = torch.bincount(self._train.labels, minlength=classes).double() + 1
        weights = (counts / counts.mean()) ** -self._settings.class_weight_power
        return weights.float()

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self._judged.state_dict().items()}

    def _order(self) -> Tensor:
        generator = torch.Generator().manual_seed(seed_of(self._seed, f"order/{self._progress.epoch}"))
        order = torch.randperm(len(self._train.at), generator=generator)
        if self._settings.steps_per_epoch is not None:
            order = order[: self._settings.steps_per_epoch * self._progress.batch]
        return order[:-1] if len(order) % self._progress.batch == 1 and len(order) > 1 else order

    def _run_epoch(self) -> None:
        progress, order = self._progress, self._order()
        steps = -(-len(order) // progress.batch)
        self._net.train()
        while progress.cursor < len(order):
            chosen = order[progress.cursor : progress.cursor + progress.batch].to(self._settings.device)
            loss = self._step(chosen)
            progress.loss_sum += loss * len(chosen)
            progress.cursor += len(chosen)
            progress.step += 1
            if progress.step % self._settings.checkpoint_steps == 0:
                self._save()
            self._watch.step(progress.epoch, -(-progress.cursor // progress.batch), steps, loss)
        self._close_epoch(progress.loss_sum / len(order))

    def _step(self, chosen: Tensor) -> float:
        windows = self._train.windows(chosen)
        if self._settings.noise:
            windows = windows + self._settings.noise * torch.randn_like(windows)
        self._optimiser.zero_grad()
        loss = self._loss(self._net(windows), chosen)
        value = float(loss.item())
        if not math.isfinite(value):
            raise TrainingFault(FaultKind.NOT_A_NUMBER, f"loss was {value} at step {self._progress.step}")
        loss.backward()  # type: ignore[no-untyped-call]
        norm = float(nn.utils.clip_grad_norm_(self._net.parameters(), self._settings.clip_norm))
        if not norm <= self._settings.exploding_norm:
            raise TrainingFault(FaultKind.EXPLODING, f"gradient norm was {norm:g} at step {self._progress.step}")
        self._optimiser.step()
        self._average()
        return value

    def _average(self) -> None:
        if self._judged is self._net:
            return
        with torch.no_grad():
            for mean, newest in zip(self._judged.parameters(), self._net.parameters(), strict=True):
                mean.lerp_(newest, 1 - self._settings.averaging)
            for kept, now in zip(self._judged.buffers(), self._net.buffers(), strict=True):
                kept.copy_(now)

    def _loss(self, logits: Tensor, chosen: Tensor) -> Tensor:
        loss = cross_entropy(logits, self._train.labels[chosen], weight=self._class_weights)
        if self._train.told is None:
            return loss
        taught = self._settings.taught
        return (1 - taught) * loss + taught * cross_entropy(
            logits, self._train.told[chosen], weight=self._class_weights
        )

    def _close_epoch(self, train_loss: float) -> None:
        progress, settings = self._progress, self._settings
        valid_loss = self._judge()
        self._schedule.step(valid_loss)
        progress.stale += 1
        progress.since_grown += 1
        if valid_loss < progress.best_loss:
            progress.best_loss, progress.stale, progress.since_grown = valid_loss, 0, 0
            self._best = self._weights()
        if progress.since_grown >= settings.grow_after:
            progress.batch, progress.since_grown = min(2 * progress.batch, settings.largest_batch), 0
        epoch, progress.epoch, progress.cursor, progress.loss_sum = progress.epoch, progress.epoch + 1, 0, 0.0
        self._save()
        self._watch.epoch(epoch, train_loss, valid_loss, progress.batch, self._optimiser.param_groups[0]["lr"])

    def _judge(self) -> float:
        """Return the log loss on `valid`, answers corrected for the class weights."""
        self._judged.eval()
        total, correction = 0.0, torch.log(self._class_weights)
        with torch.no_grad():
            for chosen in torch.split(torch.arange(len(self._valid.at), device=self._settings.device), _JUDGED_BATCH):
                logits = self._judged(self._valid.windows(chosen)) - correction
                total += float(cross_entropy(logits, self._valid.labels[chosen], reduction="sum").item())
        loss = total / len(self._valid.at)
        if not math.isfinite(loss):
            raise TrainingFault(FaultKind.NOT_A_NUMBER, f"loss on valid was {loss} in epoch {self._progress.epoch}")
        return loss

    def _fingerprint(self) -> str:
        """Return what makes a training the same one: settings, seed, layout of the net, data."""
        digest = hashlib.sha256(json.dumps([asdict(self._settings), self._seed], sort_keys=True).encode())
        for name, value in self._net.state_dict().items():
            digest.update(f"{name}{tuple(value.shape)}".encode())
        for part in (self._train, self._valid):
            for values in (part.rows, part.at, part.labels, *([] if part.told is None else [part.told])):
                digest.update(values.cpu().numpy().tobytes())
        return digest.hexdigest()

    def _save(self) -> None:
        if self._checkpoint is None:
            return
        state = {
            "progress": asdict(self._progress),
            "net": self._net.state_dict(),
            "judged": self._judged.state_dict(),
            "best": self._best,
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
            "generator": torch.get_rng_state(),
            "device_generators": [] if self._settings.device == "cpu" else torch.cuda.get_rng_state_all(),
        }
        aside = self._checkpoint.with_suffix(".part")
        with aside.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self._checkpoint)
        sync_directory(self._checkpoint.parent)

    def _resume(self) -> None:
        if self._checkpoint is None or not self._checkpoint.exists():
            return
        state: dict[str, Any] = torch.load(self._checkpoint, weights_only=True, map_location="cpu")
        self._progress = _Progress(**state["progress"])
        self._net.load_state_dict(state["net"])
        self._judged.load_state_dict(state["judged"])
        self._best = {name: value.to(self._settings.device) for name, value in state["best"].items()}
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["generator"])
        if state["device_generators"]:
            torch.cuda.set_rng_state_all(state["device_generators"])
