"""Measure trained agents on test windows: ``python -m agents.evaluate runs/hazard --out runs/table``.

The same as ``tyche leaderboard measure``.
"""

from __future__ import annotations

import sys

from agents.cli.leaderboard import measure
from tyche_env.cli import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], measure, "python -m agents.evaluate"))
