"""Makes the tables in `tests/cases.py` importable here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
