"""Where the code comes from: one root, versions without imports, a digest of all sources."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from shared.errors import MixedInstallation
from shared.provenance import PACKAGES, ROOT, code_digest, require_one_root, versions


def spec_in(*folders: Path, package: str) -> ModuleSpec:
    spec = ModuleSpec(package, None, is_package=True)
    spec.submodule_search_locations = [str(folder / package) for folder in folders]
    return spec


def test_this_installation_has_one_root() -> None:
    require_one_root()


def test_a_package_from_another_folder_is_refused_with_both_folders_named(tmp_path: Path) -> None:
    def find(package: str) -> ModuleSpec:
        return spec_in(tmp_path if package == "client" else ROOT, package=package)

    with pytest.raises(MixedInstallation) as raised:
        require_one_root(find)

    assert f"client from {tmp_path}" in str(raised.value)
    assert f"shared from {ROOT}" in str(raised.value)


def test_a_package_put_together_from_two_folders_is_refused(tmp_path: Path) -> None:
    def find(package: str) -> ModuleSpec:
        return spec_in(*((ROOT, tmp_path) if package == "server" else (ROOT,)), package=package)

    with pytest.raises(MixedInstallation, match=r"server from .* and "):
        require_one_root(find)


def test_a_single_file_of_the_same_name_is_refused(tmp_path: Path) -> None:
    def find(package: str) -> ModuleSpec:
        if package == "simulations":
            return ModuleSpec(package, None, origin=str(tmp_path / "simulations.py"))
        return spec_in(ROOT, package=package)

    with pytest.raises(MixedInstallation, match=r"simulations\.py"):
        require_one_root(find)


def test_a_role_that_has_not_all_packages_is_fine() -> None:
    require_one_root(lambda package: spec_in(ROOT, package=package) if package in {"client", "shared"} else None)


@pytest.mark.parametrize("planted", ["client", "server", "simulations"])
def test_a_planted_package_stops_a_command_before_it_is_imported(planted: str, tmp_path: Path) -> None:
    (tmp_path / planted).mkdir()
    (tmp_path / planted / "__init__.py").write_text("raise SystemExit('the planted package ran')\n")
    result = python("from shared.provenance import require_one_root; require_one_root()", tmp_path)

    assert 1 == result.returncode
    assert "MixedInstallation: client, server, shared and simulations must lie in one folder" in result.stderr
    assert f"{planted} from {tmp_path}" in result.stderr
    assert "the planted package ran" not in result.stderr


def test_a_shared_of_another_project_that_was_imported_first_is_found(tmp_path: Path) -> None:
    """The process that mixes two versions: an older Consilium's ``shared`` is loaded, ours is on the path."""
    (tmp_path / "shared").mkdir()
    for name in ("__init__.py", "errors.py", "provenance.py"):
        (tmp_path / "shared" / name).write_bytes((ROOT / "shared" / name).read_bytes())
    result = python("from shared.provenance import require_one_root; require_one_root()", tmp_path)

    assert 1 == result.returncode
    assert "MixedInstallation" in result.stderr
    assert f"shared from {tmp_path}" in result.stderr
    assert f"server from {ROOT}" in result.stderr


def test_versions_name_what_is_installed_without_importing_it() -> None:
    found = versions()

    assert {"python", "consilium", "numpy", "scikit-learn", "flwr"} <= found.keys()
    assert "1.41.0" == found["flwr"]
    code = "import sys; from shared.provenance import versions; versions(); print({'numpy', 'flwr'} & set(sys.modules))"
    assert "set()" == python(code).stdout.strip()


def test_the_digest_changes_with_a_byte_a_name_and_a_new_file_but_not_with_other_files(tmp_path: Path) -> None:
    for package in PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text('"""A package."""\n')
    module = tmp_path / "shared" / "module.py"
    module.write_text("X = 1\n")
    first = code_digest(tmp_path)

    (tmp_path / "shared" / "notes.txt").write_text("not code")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "module.py").write_text("X = 1\n")
    assert first == code_digest(tmp_path)

    module.write_text("X = 2\n")
    changed = code_digest(tmp_path)
    module.write_text("X = 1\n")
    module.rename(module.with_name("renamed.py"))
    renamed = code_digest(tmp_path)
    (tmp_path / "client" / "new.py").write_text("")
    added = code_digest(tmp_path)
    assert 4 == len({first, changed, renamed, added})


def test_the_digest_of_one_known_tree_is_the_hash_written_out_by_hand(tmp_path: Path) -> None:
    """sha256(b"client/a.py" + NUL + b"3" + NUL + b"x\\ny")."""
    (tmp_path / "client").mkdir()
    (tmp_path / "client" / "a.py").write_bytes(b"x\ny")

    assert "4ff9028e8babd66f1fc8e5192f6c3d06dab33bdb1854b9ab64aa8d993b724f06" == code_digest(tmp_path)


def python(code: str, first_on_path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a line of code in a new Python, in which ``first_on_path`` comes before this repository."""
    path = [str(folder) for folder in (first_on_path, ROOT) if folder]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, cwd="/"
    )
