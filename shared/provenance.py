"""Where the running code comes from: one place for all packages, and which versions.

``server``, ``client``, ``shared`` and ``simulations`` are common names. Another project's ``shared`` on the module path
hides ours, and a process that had imported it before mixes two versions without an error (both measured). So every
command calls ``require_one_root`` before it does anything else. It looks packages up without importing them.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Iterable
from importlib import metadata
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

from shared.errors import MixedInstallation

PACKAGES = ("client", "server", "shared", "simulations")
ROOT = Path(__file__).resolve().parent.parent
"""Folder that holds the packages."""

DISTRIBUTIONS = {
    "consilium": ("consilium",),
    "flwr": ("flwr",),
    "keras": ("keras",),
    "numpy": ("numpy",),
    "scikit-learn": ("scikit-learn",),
    "scipy": ("scipy",),
    "tensorflow": ("tensorflow", "tensorflow-cpu"),
}
"""What ``versions`` reports, and the distributions that it may have been installed from."""


def require_one_root(find: Callable[[str], ModuleSpec | None] = find_spec) -> None:
    """Check that all four packages lie side by side in one folder. A package that is not installed does not matter.

    find: where Python would import a package from.

    Raises: MixedInstallation naming every folder that a package comes from.
    """
    roots = {package: _roots(find(package)) for package in PACKAGES}
    if any(found not in (set(), {ROOT}) for found in roots.values()):
        places = "; ".join(f"{package} from {_listed(found)}" for package, found in roots.items() if found)
        raise MixedInstallation(
            f"client, server, shared and simulations must lie in one folder. Received: {places}. Install Consilium into"
            " a virtual environment of its own, unset PYTHONPATH, and start it by its command."
        )


def _roots(spec: ModuleSpec | None) -> set[Path]:
    """Return the folders in which a package's folders lie; several for a namespace that is put together."""
    if spec is None:
        return set()
    if spec.submodule_search_locations is None:  # a single file, shared.py
        return {Path(spec.origin or "").resolve()}
    return {Path(location).resolve().parent for location in spec.submodule_search_locations}


def _listed(paths: Iterable[Path]) -> str:
    return " and ".join(sorted(str(path) for path in paths))


def versions() -> dict[str, str]:
    """Return the versions of Python, Consilium and the libraries that make its numbers; what is absent is left out."""
    found = {"python": platform.python_version()}
    for name, distributions in DISTRIBUTIONS.items():
        for distribution in distributions:
            try:
                found[name] = metadata.version(distribution)
            except metadata.PackageNotFoundError:
                continue
            break
    return found


def code_digest(root: Path = ROOT) -> str:
    """Return the SHA-256, in hex, of all Python sources of the four packages.

    Every file counts with its path, its length and its content, in the order of the paths.

    root: folder that holds the packages.
    """
    digest = hashlib.sha256()
    sources = (path for package in PACKAGES for path in (root / package).rglob("*.py"))
    for name, path in sorted((path.relative_to(root).as_posix(), path) for path in sources):
        content = path.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()
