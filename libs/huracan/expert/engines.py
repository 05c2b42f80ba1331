"""The engines of one key: the library they come from, those that are open, and which of them answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import ValidationError

from huracan.contracts.context import Context, ContextRef, EngineBundle, EngineChoice, engine_choice
from huracan.errors import BadInput
from huracan.inference.bundle import MANIFEST, Bundle, Manifest, load_bundle

CONFIGURED = "configured"
"""Stands for what the service is configured with."""
VERSIONS_KEPT = 4
"""Versions of a context kept: windows name the newest that is in force, seldom the one before."""

T = TypeVar("T")


def named(bundle: Bundle) -> EngineBundle:
    """Return the name of a bundle."""
    return EngineBundle(digest=bundle.digest, name=bundle.manifest.name, version=bundle.manifest.version)


class Library:
    """Bundles in a directory, a directory each; what is no bundle there is passed over."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def bundles(self) -> dict[bytes, tuple[list[Path], EngineBundle]]:
        """Return where the copies of each bundle are, by digest, in the order of their directories.

        Their files are not checked.
        """
        found: dict[bytes, tuple[list[Path], EngineBundle]] = {}
        if self._directory is not None and self._directory.is_dir():
            for path in sorted(self._directory.glob(f"[!.]*/{MANIFEST}")):  # hidden: what is being written
                try:
                    manifest = Manifest.model_validate_json(path.read_bytes())
                except (OSError, ValidationError):
                    continue
                name = EngineBundle(digest=manifest.digest(), name=manifest.name, version=manifest.version)
                found.setdefault(name.digest, ([], name))[0].append(path.parent)
        return found

    def find(self, digest: str, *others: bytes) -> bytes:
        """Return the one digest that begins so, in hexadecimal, of those in the library and of others that are known.

        Raises BadInput where none does, or several do.
        """
        return self._one(digest, {*self.bundles(), *others})

    def load(self, digest: str) -> Bundle:
        """Return the one bundle whose digest begins so, in hexadecimal, from its first copy that is whole.

        Raises BadInput where none does, or several do, and for one of which no copy is as it was exported.
        """
        bundles = self.bundles()
        paths, _ = bundles[self._one(digest, bundles)]
        wrong = []
        for path in paths:
            try:
                return load_bundle(path)
            except BadInput as error:
                wrong.append(error)
        raise wrong[0]

    def _one(self, digest: str, known: Iterable[bytes]) -> bytes:
        found = [each for each in known if each.hex().startswith(digest.lower())]
        if digest and len(found) == 1:
            return found[0]
        if self._directory is None:
            raise BadInput("this service has no library of engines: name its directory as library in its settings")
        raise BadInput(f"bundle was {digest!r}: {len(found)} in {self._directory} have a digest that begins so")


class Engines(Generic[T]):
    """What answers, by the digest of its bundle. What is configured is always open; without a choice it answers."""

    def __init__(
        self, key: str, configured: T, name: EngineBundle, opened: Callable[[Bundle], T], library: Library
    ) -> None:
        self.key = key
        self.configured = name
        self.newest: Context | None = None
        """The newest choice, in force or about to be."""
        self._opened = opened
        self._library = library
        self._open: dict[bytes, T] = {name.digest: configured}
        self._recent: deque[EngineChoice] = deque(maxlen=VERSIONS_KEPT)

    @property
    def choice(self) -> EngineChoice:
        """Return the newest choice."""
        return engine_choice(self.configured, author="", reason="") if self.newest is None else self.newest.engine

    @property
    def version(self) -> int:
        """Return the version of the newest choice; 0: nobody has chosen."""
        return 0 if self.newest is None else self.newest.ref.version

    def library(self) -> list[EngineBundle]:
        """Return what could be opened, the configured one first."""
        found = [name for _, name in self._library.bundles().values()]
        return [self.configured, *(name for name in found if name.digest != self.configured.digest)]

    def open(self, digest: str) -> tuple[EngineBundle, T]:
        """Return what answers from a bundle, warm, given the beginning of its digest in hexadecimal.

        The one that is configured is among those of which no other may begin so, and found without a library.
        It is kept only once a choice names it. Takes tens of milliseconds and touches nothing of this: for a thread.
        Raises BadInput for a bundle that is not there, not whole, or of something else.
        """
        configured = self.configured.digest
        if digest == CONFIGURED or self._library.find(digest, configured) == configured:
            return self.configured, self._open[configured]
        bundle = self._library.load(digest)
        return named(bundle), self._opened(bundle)

    def ensure(self, name: EngineBundle) -> None:
        """Open a bundle unless it is; raise BadInput where that cannot be."""
        if name.digest not in self._open:
            self.keep(*self.open(name.digest.hex()))

    def keep(self, name: EngineBundle, what: T) -> None:
        """Have what answers from a bundle at hand."""
        self._open[name.digest] = what

    def take(self, context: Context) -> None:
        """Take a newer choice; what none of the newest ones names is closed."""
        self.newest = context
        self._recent.append(context.engine)
        names = {self.configured.digest}
        for choice in self._recent:
            names |= {choice.serves.digest, choice.beside.digest}
        self._open = {digest: what for digest, what in self._open.items() if digest in names}

    def missing(self) -> list[EngineBundle]:
        """Return what the newest choice names that is not open."""
        choice = self.choice
        wanted = [choice.serves, *([choice.beside] if choice.HasField("beside") else [])]
        return [name for name in wanted if name.digest not in self._open]

    def serving(self, context: Context | None) -> T | None:
        """Return what answers by a choice, or without one; None where it is not open."""
        return self._open.get(self.configured.digest if context is None else context.engine.serves.digest)

    def beside(self, ref: ContextRef | None) -> T | None:
        """Return what is tried beside, for a window that names the newest choice; None where there is no trial."""
        if ref is None or ref.version != self.version or not self.choice.HasField("beside"):
            return None
        return self._open.get(self.choice.beside.digest)
