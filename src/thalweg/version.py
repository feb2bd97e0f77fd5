"""The version of the package, which `pyproject.toml` alone says and its installation keeps."""

import importlib.metadata
from typing import Final

__version__: Final = importlib.metadata.version("thalweg")
