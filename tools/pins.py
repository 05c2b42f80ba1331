"""Pin every third-party dependency, by hash and without addresses, into requirements/.

The pyproject.toml files are the one list of dependencies; extra arguments go to `uv pip compile`
(`--upgrade` moves the pins, otherwise those that still fit stay).
"""

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parent.parent
PINS = REPO / "requirements"
TRAINING = REPO / "training" / "pyproject.toml"
OUR_PROTOBUF = "protobuf==7.36.*"
"""MLflow asks for an older protobuf than our messages are generated for; it works with ours."""
HEADER = "# Written by `make pins` from the pyproject.toml files.\n"


def load(path: Path) -> dict[str, Any]:
    """Read one TOML file."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


def distributions() -> list[Path]:
    """Return the pyproject.toml of every distribution built from this tree."""
    folders = [REPO / "libs", *sorted(REPO.glob("services/*")), REPO / "cli"]
    return [folder / "pyproject.toml" for folder in folders if (folder / "pyproject.toml").exists()]


def wanted_by(paths: list[Path]) -> list[str]:
    """Collect the requirements of distributions, those of their extras too, without those that are built here."""
    projects = [load(path)["project"] for path in paths]
    local = {load(path)["project"]["name"] for path in [*distributions(), TRAINING]}
    lists = [project.get("dependencies", []) for project in projects]
    lists += [extra for project in projects for extra in project.get("optional-dependencies", {}).values()]
    wanted = {requirement for each in lists for requirement in each}
    return sorted(requirement for requirement in wanted if re.split(r"[^\w.-]", requirement)[0] not in local)


def compile_pins(target: Path, requirements: list[str], extra: list[str]) -> None:
    """Resolve `requirements` for every platform and Python we support and write `target`."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv"
    options = ["--universal", "--python-version=3.11", "--generate-hashes", "--no-header", "--no-annotate"]
    command = [uv, "pip", "compile", "-", "--quiet", f"--output-file={target}", *options, *extra]
    subprocess.run(command, input="\n".join(requirements), text=True, check=True, cwd=REPO)
    target.write_text(HEADER + target.read_text(encoding="utf-8").removeprefix(HEADER), encoding="utf-8")


def main() -> None:
    """Pin what services run on, what developers and training need on top, the installer, and the oracle of tests."""
    extra = sys.argv[1:]
    groups = load(REPO / "pyproject.toml")["dependency-groups"]
    PINS.mkdir(exist_ok=True)
    runtime = wanted_by(distributions())
    compile_pins(PINS / "runtime.txt", runtime, extra)
    within = f"--constraints={PINS / 'runtime.txt'}"
    compile_pins(PINS / "dev.txt", runtime + groups["dev"], [within, *extra])
    compile_pins(PINS / "setup.txt", groups["setup"], extra)
    # environments of their own: what they pin is not what we run on
    compile_pins(PINS / "oracle.txt", groups["oracle"], extra)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as override:
        override.write(OUR_PROTOBUF)
        override.flush()
        wanted = [*runtime, *groups["dev"], *wanted_by([TRAINING])]
        compile_pins(PINS / "training.txt", wanted, [f"--override={override.name}", *extra])


if __name__ == "__main__":
    main()
