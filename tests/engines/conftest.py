"""Makes the training case importable by the tests of engines."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
