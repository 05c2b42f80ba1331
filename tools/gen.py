"""Generate the Python contracts from proto/ into libs/huracan/contracts/.

Generated modules live under `huracan.contracts`: proto package `huracan.market.v1` becomes
`huracan.contracts.huracan.market.v1`. `--check` writes nothing and fails when the tree has drifted.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
PROTO = REPO / "proto"
CONTRACTS = REPO / "libs" / "huracan" / "contracts"
PREFIX = "huracan.contracts."

Tree = dict[Path, str]
"""Path below CONTRACTS -> text."""


def proto_roots() -> list[str]:
    """Name the top-level proto packages; everything below them in CONTRACTS is generated."""
    return sorted(path.name for path in PROTO.iterdir() if path.is_dir())


def run_protoc(out: Path) -> None:
    """Run protoc over every proto file, in a fixed order."""
    protos = sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))
    protoc = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}"]
    subprocess.run([*protoc, f"--python_out={out}", f"--pyi_out={out}", *protos], check=True)


def relocate(text: str, roots: list[str]) -> str:
    """Move a generated module's imports, and the module name its messages report, under PREFIX."""
    names = "|".join(map(re.escape, roots))
    text = re.sub(rf"^from ({names})\b", rf"from {PREFIX}\1", text, flags=re.MULTILINE)
    return re.sub(r"(BuildTopDescriptorsAndMessages\(DESCRIPTOR, ')", rf"\1{PREFIX}", text)


def expected() -> Tree:
    """Generate into a temporary folder and return what CONTRACTS should hold."""
    roots = proto_roots()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        run_protoc(out)
        tree = {
            path.relative_to(out): relocate(path.read_text(encoding="utf-8"), roots)
            for path in out.rglob("*")
            if path.is_file()
        }
    packages = {parent for path in tree for parent in path.parents if parent != Path()}
    return tree | {package / "__init__.py": "" for package in packages}


def present() -> Tree:
    """Return the generated files CONTRACTS holds now, those of removed protos included."""
    roots = proto_roots()
    sources = [path for path in CONTRACTS.rglob("*.py*") if path.suffix in {".py", ".pyi"}]
    tree = {path.relative_to(CONTRACTS): path.read_text(encoding="utf-8") for path in sources}
    return {path: text for path, text in tree.items() if path.parts[0] in roots or "_pb2" in path.name}


def drift(want: Tree, have: Tree) -> list[Path]:
    """Return the paths whose text differs, is missing, or should not be there."""
    return sorted(path for path in want.keys() | have.keys() if want.get(path) != have.get(path))


def write(want: Tree, paths: list[Path]) -> None:
    """Bring the drifted paths to what `want` says; leave the others untouched."""
    for path in paths:
        target = CONTRACTS / path
        if path in want:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(want[path], encoding="utf-8")
        else:
            target.unlink()


def main() -> int:
    """Write the generated contracts, or with --check report the drifted ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file has drifted")
    check: bool = parser.parse_args().check
    want = expected()
    drifted = drift(want, present())
    for path in drifted:
        print(f"{'drifted' if check else 'written' if path in want else 'removed'}: {path.as_posix()}")
    if check:
        if drifted:
            print("generated contracts differ from proto/; run `make gen`")
        return int(bool(drifted))
    write(want, drifted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
