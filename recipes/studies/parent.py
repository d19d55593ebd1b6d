"""Puts recipes/ on the path, for scripts one folder below it: `common` and `data` are found there."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
