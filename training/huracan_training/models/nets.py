"""Nets of windows: the original LSTM, a strided CNN and a causal TCN, fitted on all assets together."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad, softmax

from huracan.errors import BadInput
from huracan.inference.engine import FP32
from huracan.inference.probabilities import as_probabilities
from huracan_training.chance import seed_of
from huracan_training.models.compact import compact
from huracan_training.models.inputs import (
    Question,
    all_labels,
    check_positions,
    check_samples,
    fitted,
    fitted_scaler,
    with_scales_of,
)
from huracan_training.models.keeping import read_state, write_state
from huracan_training.models.loop import LoopSettings, Outcome, Training, Watch, WindowSet, deterministic
from huracan_training.models.resolver import FaultMemory, resolved
from huracan_training.samples import WINDOW, Classifier, Floats, Integers, Sample
from huracan_training.scaling import Method, Scaler

OPSET = 17
_BATCH = 1024
_KERNEL = 3
_STRIDE = 4
_DEEPEST = 3
_FAULTS = "faults.jsonl"
_WEIGHTS = "weights.npz"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetSettings:
    """The size of a net."""

    width: int
    """Hidden units or channels."""
    depth: int
    """Layers or blocks."""
    dropout: float


@dataclass(frozen=True, slots=True)
class Reading:
    """How a layer reads channels: from its input `first` on, `each` inputs a channel."""

    layer: str
    first: int = 0
    each: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Channels:
    """Channels that one layer makes and others read: each can be taken out, from all of them together."""

    made: tuple[str, ...]
    """Names of the layers whose outputs they are: the one that makes them first, then those that pass them on."""
    read: tuple[Reading, ...]


class Narrowable(nn.Module):
    """A net that can do with fewer channels, and is then the same net of a smaller width."""

    def channels(self) -> tuple[Channels, ...]:
        """Return the channels that can be taken out."""
        raise NotImplementedError


class LstmNet(nn.Module):
    """LSTM over the window, its last step to the classes: the original detector (hidden 128, 2 layers)."""

    def __init__(self, columns: int, classes: int, settings: NetSettings) -> None:
        super().__init__()
        between = settings.dropout if settings.depth > 1 else 0.0
        self.lstm = nn.LSTM(columns, settings.width, settings.depth, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(settings.dropout)
        self.head = nn.Linear(settings.width, classes)

    def forward(self, windows: Tensor) -> Tensor:
        """Return logits, shape (b, classes), of windows of shape (b, columns, 64)."""
        steps, _ = self.lstm(windows.transpose(1, 2))
        logits: Tensor = self.head(self.dropout(steps[:, -1]))
        return logits


class StridedCnn(Narrowable):
    """Convolutions that quarter the window, batch norm and ReLU, beside a layer that reads the last row: fit for INT8.

    The last row says most, and also reaches the classes directly; the convolutions say how it came about.
    """

    def __init__(self, columns: int, classes: int, settings: NetSettings) -> None:
        super().__init__()
        if not 1 <= settings.depth <= _DEEPEST:
            raise BadInput(f"depth was {settings.depth}; a window of {WINDOW} can be quartered 1 to {_DEEPEST} times")
        width, hidden = settings.width, settings.width * 3 // 2
        layers: list[nn.Module] = []
        for index in range(settings.depth):
            layers += [
                nn.Conv1d(columns if index == 0 else width, width, _STRIDE, stride=_STRIDE),
                nn.BatchNorm1d(width),
                nn.ReLU(),
                nn.Dropout(settings.dropout),
            ]
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.last = nn.Linear(columns, hidden)
        self.hidden = nn.Linear(width * (WINDOW // _STRIDE**settings.depth) + hidden, hidden)
        self.dropout = nn.Dropout(settings.dropout)
        self.head = nn.Linear(hidden, classes)
        self.direct = nn.Linear(columns, classes)

    def forward(self, windows: Tensor) -> Tensor:
        """Return logits, shape (b, classes), of windows of shape (b, columns, 64)."""
        last = windows[:, :, -1:].flatten(1)  # engines slice faster than they gather
        seen = torch.cat([self.layers(windows), self.dropout(torch.relu(self.last(last)))], dim=1)
        logits: Tensor = self.head(self.dropout(torch.relu(self.hidden(seen)))) + self.direct(last)
        return logits

    def channels(self) -> tuple[Channels, ...]:
        """Return those of each convolution, with its batch norm, and of both hidden layers."""
        convolutions = [name for name, layer in self.named_modules() if isinstance(layer, nn.Conv1d)]
        norms = [name for name, layer in self.named_modules() if isinstance(layer, nn.BatchNorm1d)]
        seen_of_each = WINDOW // _STRIDE ** len(convolutions)
        seen = self.hidden.in_features - self.last.out_features
        readers = [*(Reading(name) for name in convolutions[1:]), Reading("hidden", each=seen_of_each)]
        return (
            *(
                Channels(made=(conv, norm), read=(reader,))
                for conv, norm, reader in zip(convolutions, norms, readers, strict=True)
            ),
            Channels(made=("last",), read=(Reading("hidden", first=seen),)),
            Channels(made=("hidden",), read=(Reading("head"),)),
        )


class CausalBlock(nn.Module):
    """A dilated convolution that looks back only, added to what it was given."""

    def __init__(self, width: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.reach = dilation * (_KERNEL - 1)
        self.conv = nn.Conv1d(width, width, _KERNEL, dilation=dilation)
        self.dropout = nn.Dropout(dropout)

    def forward(self, steps: Tensor) -> Tensor:
        """Return steps of the same shape."""
        added: Tensor = steps + self.dropout(torch.relu(self.conv(pad(steps, (self.reach, 0)))))
        return added


class CausalTcn(Narrowable):
    """Causal blocks of dilation 1, 2, 4, … and the last step to the classes (Bai et al. 2018)."""

    def __init__(self, columns: int, classes: int, settings: NetSettings) -> None:
        super().__init__()
        self.enter = nn.Conv1d(columns, settings.width, 1)
        blocks = [CausalBlock(settings.width, 1 << index, settings.dropout) for index in range(settings.depth)]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(settings.width, classes)

    def forward(self, windows: Tensor) -> Tensor:
        """Return logits, shape (b, classes), of windows of shape (b, columns, 64)."""
        logits: Tensor = self.head(self.blocks(self.enter(windows))[:, :, -1:].flatten(1))
        return logits

    def channels(self) -> tuple[Channels, ...]:
        """Return the channels that all blocks share: each adds to what it was given."""
        blocks = tuple(f"blocks.{index}.conv" for index in range(len(self.blocks)))
        return (Channels(made=("enter", *blocks), read=(*map(Reading, blocks), Reading("head"))),)


class _Fed(nn.Module):
    """A net with what it is fed and what it answers put right: the order of axes, the prior of the classes."""

    def __init__(self, net: nn.Module, classes: int, *, time_first: bool) -> None:
        super().__init__()
        self.net = net
        self.time_first = time_first
        self.register_buffer("prior", torch.zeros(classes))

    def forward(self, windows: Tensor) -> Tensor:
        logits: Tensor = self.net(windows.transpose(1, 2) if self.time_first else windows)
        return logits - self.get_buffer("prior")


BuildNet = Callable[[int, int, NetSettings], nn.Module]
"""Columns, classes, size → a net from (b, columns, 64) to logits of shape (b, classes)."""


class NetClassifier:
    """A net behind the interface of classifiers.

    Rows are scaled per asset and 0, the mean of train, where they are missing. With a `room`, a directory,
    training leaves a checkpoint there and goes on from it, and remembers what helped after a fault. With a `teacher`,
    it learns from what that one says beside the labels, and the teacher is not kept.
    """

    def __init__(
        self,
        name: str,
        build: BuildNet,
        question: Question,
        size: NetSettings,
        *,
        loop: LoopSettings | None = None,
        scaling: Method = Method.STANDARD,
        room: Path | None = None,
        watch: Watch | None = None,
        teacher: Classifier | None = None,
    ) -> None:
        self.name = name
        self.outcome: Outcome | None = None
        """How the last training ended."""
        self._build = build
        self._question = question
        self.size = size
        self._loop = loop or LoopSettings()
        self._method = scaling
        self._room = room
        self._watch = watch
        self._teacher = teacher
        self._scaling: Scaler | None = None
        self._net: _Fed | None = None
        self._columns = 0

    @property
    def net(self) -> nn.Module:
        """Return the trained net: logits, shape (b, classes), of scaled windows, shape (b, columns, 64)."""
        return fitted(self._net, self.name)

    def fit(self, train: Sequence[Sample], valid: Sequence[Sample], *, seed: int) -> None:
        """Train until `valid` no longer improves; after a fault, again with changed settings.

        Raise Fatal when no change helps.
        """
        check_samples(train, self._question, name="train")
        check_samples(valid, self._question, name="valid")
        self._scaling = fitted_scaler(train, self._method)
        self._columns = train[0].series.rows.shape[1]
        if self._teacher is not None:
            self._teacher.fit(train, valid, seed=seed)
        self._learn(train, valid, self._teacher, seed, start=None)

    def tune(self, train: Sequence[Sample], valid: Sequence[Sample], teacher: Classifier, *, seed: int) -> None:
        """Go on training a net that was fitted or read, as it is scaled, on labels and what a fitted teacher says.

        Raise Fatal when no change of settings helps after a fault.
        """
        check_samples(train, self._question, name="train")
        check_samples(valid, self._question, name="valid")
        self._learn(train, valid, teacher, seed, start=fitted(self._net, self.name).state_dict())

    def _learn(
        self,
        train: Sequence[Sample],
        valid: Sequence[Sample],
        teacher: Classifier | None,
        seed: int,
        *,
        start: Mapping[str, Tensor] | None,
    ) -> None:
        learned = replace(self.fed(train), told=None if teacher is None else _said_by(teacher, train))
        judged = self.fed(valid)
        memory = None
        if self._room is not None:
            self._room.mkdir(parents=True, exist_ok=True)
            memory = FaultMemory(self._room / _FAULTS)

        def attempt(settings: LoopSettings) -> tuple[_Fed, Outcome]:
            return self._attempt(learned, judged, settings, seed, start)

        subject = f"{self.name} on {self._columns} columns"
        self._net, self.outcome = resolved(attempt, self._loop, subject=subject, memory=memory)

    def _attempt(
        self,
        learned: WindowSet,
        judged: WindowSet,
        settings: LoopSettings,
        seed: int,
        start: Mapping[str, Tensor] | None,
    ) -> tuple[_Fed, Outcome]:
        classes = self._question.classes
        with deterministic(settings.device):
            torch.manual_seed(seed_of(seed, "weights"))
            net = self._built(time_first=settings.time_first)
            if start is not None:
                net.load_state_dict(start)
                net.get_buffer("prior").zero_()
            training = Training(
                net,
                learned,
                judged,
                settings,
                classes=classes,
                seed=seed,
                room=self._room,
                watch=self._watch,
            )
            outcome = training.run()
        net.get_buffer("prior").copy_(torch.log(torch.tensor(outcome.class_weights)))
        return net.to("cpu").eval(), outcome

    def _built(self, *, time_first: bool) -> _Fed:
        classes = self._question.classes
        return _Fed(self._build(self._columns, classes, self.size), classes, time_first=time_first)

    def narrowed(self, share: float) -> NetClassifier:
        """Return the same net without a share of its channels, in (0, 1): those that say least, really taken out.

        What stays is as it was and wants tuning. Raises BadInput for a net that has no channels to take out, and a
        share that leaves none.
        """
        net, width = fitted(self._net, self.name), int(self.size.width * (1 - share))
        if not isinstance(net.net, Narrowable):
            raise BadInput(f"{self.name} has no channels that could be taken out: prune none of it")
        if not 0 < share < 1 or width < 1:
            raise BadInput(f"share was {share} of {self.size.width} channels: give one that leaves and takes some")
        found = NetClassifier(
            self.name,
            self._build,
            self._question,
            replace(self.size, width=width),
            loop=self._loop,
            scaling=self._method,
            room=self._room,
            watch=self._watch,
        )
        found._scaling, found._columns = self._scaling, self._columns
        narrow = found._built(time_first=net.time_first)
        narrow.net.load_state_dict(sliced(net.net, narrow.net))
        narrow.get_buffer("prior").copy_(net.get_buffer("prior"))
        found._net = narrow.eval()
        return found

    def fed(self, samples: Sequence[Sample]) -> WindowSet:
        """Return the windows that the net is fed at all positions of samples, with their labels."""
        return _windows_of(samples, fitted(self._scaling, self.name), all_labels(samples))

    def meet(self, more: Sequence[Sample]) -> None:
        """Learn the scales of assets that were not trained on, and nothing else."""
        self._scaling = with_scales_of(fitted(self._scaling, self.name), more)

    def predict(self, sample: Sample) -> Floats:
        """Return the softmax of the net's answers, floored at a millionth."""
        check_positions(sample, name="sample")
        windows = _windows_of([sample], fitted(self._scaling, self.name), np.zeros(len(sample.at), dtype=np.int64))
        with deterministic(), torch.no_grad():
            answers = [softmax(self.net(batch).double(), dim=1).numpy() for batch in windows.batches(_BATCH)]
        return as_probabilities(np.concatenate(answers))

    def write(self, directory: Path) -> None:
        """Keep weights and scaling, and the net as ONNX: input `windows` (batch, columns, 64), output `logits`."""
        net = fitted(self._net, self.name)
        state = {
            "columns": self._columns,
            "time_first": net.time_first,
            "size": asdict(self.size),
            "scaling": fitted(self._scaling, self.name).model_dump(mode="json"),
        }
        write_state(directory, state)
        np.savez(directory / _WEIGHTS, **{name: value.numpy() for name, value in net.state_dict().items()})
        export_onnx(net, self._columns, directory / FP32)

    def read(self, directory: Path) -> None:
        """Take back what was kept."""
        state = read_state(directory)
        self._columns, self.size = state["columns"], NetSettings(**state["size"])
        self._scaling = Scaler.model_validate(state["scaling"])
        net = self._built(time_first=state["time_first"])
        with np.load(directory / _WEIGHTS, allow_pickle=False) as kept:
            net.load_state_dict({name: torch.from_numpy(kept[name]) for name in kept.files})
        self._net = net.eval()


def sliced(net: Narrowable, narrow: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a net that a narrower one of the same build takes: of its channels those that say most.

    A channel says as much as the squares of its own weights, scaled as the batch norm scales it, times those of the
    weights that read it: it can be silent, or not listened to.
    """
    layers, narrow_layers = dict(net.named_modules()), dict(narrow.named_modules())
    rows: dict[str, Tensor] = {}
    columns: dict[str, list[Tensor]] = {}
    for channels in net.channels():
        wanted = len(narrow_layers[channels.made[0]].get_parameter("weight"))
        kept = torch.sort(torch.argsort(_says(layers, channels), descending=True, stable=True)[:wanted]).values
        rows |= dict.fromkeys(channels.made, kept)
        for reading in channels.read:
            inputs = reading.first + kept[:, None] * reading.each + torch.arange(reading.each)
            columns.setdefault(reading.layer, []).append(inputs.flatten())
    found = {}
    for name, values in net.state_dict().items():
        layer, _, leaf = name.rpartition(".")
        taken = values[rows[layer]] if layer in rows and values.ndim else values
        found[name] = taken[:, torch.cat(columns[layer])] if layer in columns and leaf == "weight" else taken
    return found


def _says(layers: Mapping[str, nn.Module], channels: Channels) -> Tensor:
    """Return how much each channel says, shape (channels,)."""
    made, read = torch.tensor(0.0), torch.tensor(0.0)
    for name in channels.made:
        layer = layers[name]
        if isinstance(layer, nn.BatchNorm1d):
            made = made * layer.weight.detach() ** 2 / (layer.get_buffer("running_var") + layer.eps)
        else:
            made = made + layer.get_parameter("weight").detach().flatten(1).square().sum(1)
    for reading in channels.read:
        weight = layers[reading.layer].get_parameter("weight").detach()
        inputs = weight[:, reading.first : reading.first + len(made) * reading.each]
        read = read + inputs.reshape(len(weight), len(made), -1).square().sum((0, 2))
    return made * read


def _said_by(teacher: Classifier, samples: Sequence[Sample]) -> Tensor:
    """Return what a fitted teacher says at all positions of samples, shape (m, classes)."""
    return torch.from_numpy(np.concatenate([teacher.predict(sample) for sample in samples])).float()


def export_onnx(net: nn.Module, columns: int, file: Path) -> None:
    """Write a net as ONNX, opset 17, of any batch: input `windows` (batch, columns, 64), output `logits`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's age, and of LSTMs whose batch is not fixed: ours is given
        torch.onnx.export(
            net,
            (torch.zeros(2, columns, WINDOW),),
            file,
            opset_version=OPSET,
            dynamo=False,
            input_names=["windows"],
            output_names=["logits"],
            dynamic_axes={"windows": {0: "batch"}, "logits": {0: "batch"}},
        )
    file.write_bytes(compact(file.read_bytes()))


def _windows_of(samples: Sequence[Sample], scaling: Scaler, labels: Integers) -> WindowSet:
    rows = [np.nan_to_num(scaling.scaled(sample.series)) for sample in samples]
    starts = np.cumsum([0, *(len(part) for part in rows[:-1])])
    at = [sample.at + start for sample, start in zip(samples, starts, strict=True)]
    return WindowSet(
        rows=torch.from_numpy(np.concatenate(rows)),
        at=torch.from_numpy(np.concatenate(at).astype(np.int64)),
        labels=torch.from_numpy(labels),
    )
