"""Measure trained agents on test windows: ``python -m agents.evaluate runs/hazard --out runs/table``.

The same as ``tyche leaderboard measure``.
"""

from __future__ import annotations

import sys

from agents.cli.leaderboard import measure
from tyche_env.errors import UserError

if __name__ == "__main__":
    try:
        measure()
    except UserError as error:
        sys.exit(f"error: {error}")
