"""Whether the sdist and the wheels under a folder hold what git tracks, and nothing else.

``dist/`` has the sdist and the wheel built from it, ``from-checkout/`` a wheel built without it.
"""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

# What only a checkout needs.
NOT_IN_SDIST = (".ci/", ".github/", ".pre-commit-config.yaml")


def read_sdist(path: Path) -> dict[str, bytes]:
    """Content by name, without the folder that holds it all."""
    with tarfile.open(path) as sdist:
        files = [member for member in sdist if not member.isdir()]
        return {m.name.partition("/")[2]: sdist.extractfile(m).read() for m in files}


def read_wheel(path: Path) -> dict[str, bytes]:
    """Content by name, without what pip reads."""
    with zipfile.ZipFile(path) as wheel:
        return {name: wheel.read(name) for name in wheel.namelist() if ".dist-info/" not in name}


def compare(what: str, found: dict[str, bytes], expected: dict[str, bytes]) -> list[str]:
    """A line for each file that is missing, superfluous or another."""
    both = sorted(found.keys() & expected.keys())
    return [
        *(f"{what} lacks {name}" for name in sorted(expected.keys() - found.keys())),
        *(f"{what} has {name}, which git does not" for name in sorted(found.keys() - both)),
        *(f"{what} has another {name}" for name in both if found[name] != expected[name]),
    ]


def main(folder: Path) -> int:
    """Compare and count; 1 where something differs."""
    tracked = subprocess.run(["git", "ls-files", "-z"], capture_output=True, check=True, text=True)
    files = {name: Path(name).read_bytes() for name in tracked.stdout.split("\0") if name}
    package = {name: data for name, data in files.items() if name.startswith("fastdqn/")}
    sources = {name: data for name, data in files.items() if not name.startswith(NOT_IN_SDIST)}
    (sdist,) = folder.glob("dist/*.tar.gz")
    (wheel,) = folder.glob("dist/*.whl")
    (direct,) = folder.glob("from-checkout/*.whl")
    unpacked = read_sdist(sdist)
    unpacked.pop("PKG-INFO")
    differences = [
        *compare(sdist.name, unpacked, sources),
        *compare(f"{wheel.name}, built from the sdist,", read_wheel(wheel), package),
        *compare(f"{direct.name}, built from the checkout,", read_wheel(direct), package),
    ]
    for line in differences:
        print(line, file=sys.stderr)
    for path in (sdist, wheel):
        print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")
    return int(bool(differences))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
