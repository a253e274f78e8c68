"""The wheel as it would be given out, and environments that hold it and chosen packages."""

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]


def build_wheel(folder: Path) -> Path:
    """Build twinline's wheel into this folder."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def install_alone(wheel: Path, environment: Path) -> Path:
    """Install a wheel, and nothing that it depends on, into a fresh environment; its folder of packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    install = ["uv", "pip", "install", "--quiet", "--offline", "--no-deps", "--python", str(python), str(wheel)]
    subprocess.run([Path(sys.executable).parent / install[0], *install[1:]], check=True, cwd=environment)
    (site,) = environment.glob("lib/python*/site-packages")
    return site


def lend(site: Path, requirements: list[str]) -> None:
    """Put there what these requirements install, all that they depend on included, from this environment of ours."""
    for name in _with_all_they_need(requirements):
        files = distribution(name).files
        assert files is not None
        for top in {file.parts[0] for file in files} - {".."}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(distribution(name).locate_file(top))))


def _with_all_they_need(requirements: list[str]) -> set[str]:
    return {name for each in requirements for name in _closure(Requirement(each), set())}


def _closure(asked: Requirement, seen: set[tuple[str, frozenset[str]]]) -> Iterator[str]:
    key = (_normalized(asked.name), frozenset(asked.extras))
    if key in seen:
        return
    seen.add(key)
    yield key[0]
    for text in distribution(asked.name).requires or ():
        needed = Requirement(text)
        if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *asked.extras)):
            yield from _closure(needed, seen)


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
