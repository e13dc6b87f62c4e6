"""What a run of a table imports, for ``forked.py``: imported once, in the process that the others are forked from."""

import importlib
import os

# As the command does, before the linear algebra library is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

MODULES = ("flwr.serverapp", "pandas", "scipy.stats", "sklearn.datasets", "simulations.cli", "simulations.run")
for name in MODULES:
    importlib.import_module(name)

# Imports matplotlib in its own way, once for a process.
importlib.import_module("server.svg").drawn("none", "", lambda _axes: None)
