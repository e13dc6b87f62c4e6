"""The rules of the house as functions from a parsed module to complaints; ``test_architecture.py`` applies them.

Only the source is read: nothing is imported.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

ARROWS = {
    "simulations": {"simulations", "server", "client", "shared"},
    "server": {"server", "shared"},
    "client": {"client", "shared"},
    "shared": {"shared"},
}
"""Which of our packages each package may import."""

CONFINED = {
    "flwr": (
        "server/app.py",
        "server/transport.py",
        "server/strategies.py",
        "server/cli.py",
        "server/gateway.py",
        "server/superlink.py",
        "client/app.py",
        "client/node.py",
        "client/connection.py",
        "client/cli.py",
        "shared/codec.py",
        "simulations/ray.py",
        "simulations/ray_cluster.py",
        "simulations/benchmarks/",
    ),
    "dp_accounting": ("shared/privacy/accounting.py",),
    "ray": ("simulations/ray_cluster.py", "simulations/ray.py", "simulations/benchmarks/"),
    "tensorflow": (
        "shared/models/",
        "shared/methods/neural.py",
        "shared/privacy/clipping.py",
        "shared/privacy/convolution.py",
        "shared/privacy/dpsgd.py",
        "shared/privacy/ghost.py",
        "shared/privacy/group_norm.py",
        "shared/privacy/layers.py",
        "simulations/benchmarks/",
    ),
}
CONFINED["keras"] = CONFINED["tensorflow"]
"""Third-party packages, and the only files or folders that may import them."""

HEAVY = {"dp_accounting", "flwr", "keras", "matplotlib", "pandas", "pyarrow", "ray", "scipy", "sklearn", "tensorflow"}
"""Packages that take long to import; only functions import them, so that a command pays for what it uses."""

PICKLES = {"cPickle", "cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
GENERATOR_TYPES = {"BitGenerator", "Generator", "PCG64", "Philox", "RandomState", "SeedSequence", "default_rng"}
"""What of ``numpy.random`` has no global state."""

REGISTRIES = {
    "shared/methods/__init__.py",
    "shared/models/__init__.py",
    "client/data/__init__.py",
    "simulations/datasets/__init__.py",
}
LONGEST_MODULE = 400


@dataclass(frozen=True)
class Import:
    """One imported name: its dotted module, the line, whether it runs when the module is imported."""

    module: str
    line: int
    at_start: bool

    @property
    def package(self) -> str:
        return self.module.partition(".")[0]


@dataclass(frozen=True)
class Module:
    """One source file. ``path`` is relative to the repository, with forward slashes."""

    path: str
    source: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)

    @property
    def package(self) -> str:
        return self.path.partition("/")[0]

    @cached_property
    def imports(self) -> tuple[Import, ...]:
        return tuple(_imports(self.tree, at_start=True))


@cache
def our_modules() -> tuple[Module, ...]:
    """Every Python file of the four packages, parsed once for all rules."""
    paths = sorted(path for package in ARROWS for path in (ROOT / package).rglob("*.py"))
    return tuple(Module(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in paths)


def _imports(node: ast.AST, at_start: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, at_start) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from _imported_from(child, at_start)
        elif isinstance(child, ast.Call) and _called(child) in {"__import__", "import_module"}:
            yield from (
                Import(str(argument.value), child.lineno, at_start)
                for argument in child.args[:1]
                if isinstance(argument, ast.Constant)
            )
        elif isinstance(child, ast.If) and _last_name(child.test) == "TYPE_CHECKING":
            yield from (found for part in child.body for found in _imports(ast.Module([part], []), at_start=False))
            yield from (found for part in child.orelse for found in _imports(ast.Module([part], []), at_start))
        else:
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, at_start and not function)


def _imported_from(node: ast.ImportFrom, at_start: bool) -> Iterator[Import]:
    """``from a import b`` may import the module ``a.b``: both names count."""
    base = "." * node.level + (node.module or "")
    yield Import(base, node.lineno, at_start)
    yield from (Import(f"{base}.{alias.name}", node.lineno, at_start) for alias in node.names)


def _called(call: ast.Call) -> str:
    return _last_name(call.func)


def _last_name(node: ast.expr) -> str:
    """Return ``c`` of ``a.b.c`` or ``c``, and nothing of anything else."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def arrows(module: Module) -> list[str]:
    """Imports follow the arrows, and name modules from the top."""
    allowed = ARROWS[module.package]
    return _complaints(
        (
            found.line,
            f"{module.package} must not import {found.package}" if found.package else "name modules from the top",
        )
        for found in module.imports
        if not found.package or (found.package in {*ARROWS, "tests"} and found.package not in allowed)
    )


def confined(module: Module) -> list[str]:
    """Flower, Ray, TensorFlow and Keras appear only where the design puts them."""
    return _complaints(
        (found.line, f"{found.package} may be imported only in {', '.join(CONFINED[found.package])}")
        for found in module.imports
        if found.package in CONFINED and not module.path.startswith(CONFINED[found.package])
    )


def light_start(module: Module) -> list[str]:
    """Importing a module of ours imports no heavy package; ``server/app.py`` is imported by Flower itself."""
    if module.path == "server/app.py":
        return []
    return _complaints(
        (found.line, f"import {found.package} inside the function that needs it")
        for found in module.imports
        if found.at_start and found.package in HEAVY
    )


def no_pickle(module: Module) -> list[str]:
    """Nothing is read or written that can run code when it is read."""
    calls = [node for node in ast.walk(module.tree) if isinstance(node, ast.Call)]
    allowing = [
        call.lineno
        for call in calls
        for keyword in call.keywords
        if keyword.arg == "allow_pickle" and not (isinstance(keyword.value, ast.Constant) and not keyword.value.value)
    ]
    return _complaints(
        [(found.line, f"{found.package} runs code when read") for found in module.imports if found.package in PICKLES]
        + [(line, "allow_pickle runs code when read") for line in allowing]
        + [
            (call.lineno, f"{_called(call)} runs code")
            for call in calls
            if _called(call) in {"read_pickle", "to_pickle"}
        ]
    )


def randomness_is_an_argument(module: Module) -> list[str]:
    """No global generator, and none that starts from the clock."""
    complaints = [
        (found.line, "the module random is global state") for found in module.imports if found.package == "random"
    ]
    complaints += [
        (found.line, f"{found.module} is global state")
        for found in module.imports
        if found.module.startswith("numpy.random.") and found.module.split(".")[2] not in GENERATOR_TYPES
    ]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and _last_name(node.value) == "random":
            if ast.unparse(node.value) in {"np.random", "numpy.random"} and node.attr not in GENERATOR_TYPES:
                complaints.append((node.lineno, f"np.random.{node.attr} uses the global generator"))
        elif isinstance(node, ast.Call) and _called(node) in {"default_rng", "RandomState"} and not node.args:
            complaints.append((node.lineno, f"{_called(node)}() without a seed differs from run to run"))
    return _complaints(complaints)


def documented(module: Module) -> list[str]:
    """Every module, and every public class, function and method, has a docstring."""
    complaints = [] if ast.get_docstring(module.tree) else [(1, "module without docstring")]
    stack: list[ast.Module | ast.ClassDef] = [module.tree]
    while stack:
        for node in stack.pop().body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if node.name.startswith("_"):
                continue
            if not ast.get_docstring(node):
                complaints.append((node.lineno, f"{node.name} without docstring"))
            if isinstance(node, ast.ClassDef):
                stack.append(node)
    return _complaints(complaints)


def bare_package(module: Module) -> list[str]:
    """A package's ``__init__`` holds a docstring; a registry's also its imports and the literal dictionary."""
    if not module.path.endswith("/__init__.py"):
        return []
    complaints = []
    for node in module.tree.body[1 if ast.get_docstring(module.tree) else 0 :]:
        registry = isinstance(node, ast.Import | ast.ImportFrom) or (
            isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict)
        )
        if not (registry and module.path in REGISTRIES):
            complaints.append((node.lineno, f"{ast.unparse(node).splitlines()[0][:60]!r} belongs into a module"))
    return _complaints(complaints)


def short(module: Module) -> list[str]:
    """No module has grown beyond what one person reads in one sitting."""
    lines = module.source.count("\n")
    return [f"{lines} lines, more than {LONGEST_MODULE}"] if lines > LONGEST_MODULE else []


def _complaints(found: Iterator[tuple[int, str]] | list[tuple[int, str]]) -> list[str]:
    return list(dict.fromkeys(f"line {line}: {text}" for line, text in sorted(found)))


RULES: dict[str, Callable[[Module], list[str]]] = {
    "arrows": arrows,
    "confined": confined,
    "light_start": light_start,
    "no_pickle": no_pickle,
    "randomness_is_an_argument": randomness_is_an_argument,
    "documented": documented,
    "bare_package": bare_package,
    "short": short,
}
