"""Check what a built wheel and source archive hold, and that each works where nothing else of this repository is.

`python .ci/wheel.py DIST` takes the folder that `python -m build` wrote to.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src"
SMOKE = (
    "import sys, thalweg, thalweg.heads, thalweg.training; "
    "thalweg.certify, thalweg.train, thalweg.heads.Softmax, thalweg.training.Recipe; "
    "assert thalweg.__file__.startswith(sys.prefix), thalweg.__file__"
)


def missing(archive: list[str], wanted: list[str]) -> list[str]:
    """Return the wanted files that no member of an archive ends in."""
    return [name for name in wanted if not any(member.endswith(name) for member in archive)]


def main(dist: Path) -> int:
    """Check both archives; return the exit code."""
    (wheel,), (source,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    files = (path for path in SOURCES.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    package = [str(path.relative_to(SOURCES)) for path in files if ".egg-info" not in str(path)]
    with zipfile.ZipFile(wheel) as archive:
        lacking = missing(archive.namelist(), [*package, "licenses/LICENSE"])
    with tarfile.open(source) as archive:
        lacking += missing(archive.getnames(), [*package, "README.md", "LICENSE", "tests/test_docs.py"])
    if lacking:
        print(f"not packed: {lacking}")
        return 1
    for archive in (wheel, source):
        use(archive)
    print(f"{wheel.name} and {source.name}: complete, and each works by itself")
    return 0


def use(archive: Path) -> None:
    """Install an archive where nothing else of this repository is, and use it."""
    with tempfile.TemporaryDirectory() as folder:
        # What it needs is installed already and is looked up there; the package itself is not.
        venv.create(folder, with_pip=False)
        target = next(Path(folder).glob("lib/python*/site-packages"))
        (target / "needs.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
        install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-compile", "--target", target]
        subprocess.run([*install, archive], check=True)
        python = Path(folder) / "bin" / "python"
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        for command in ([python, "-c", SMOKE], [python, "-m", "thalweg", "--help"]):
            subprocess.run(command, check=True, cwd=folder, env=environment, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
