"""Train an agent by a recipe: ``python -m agents.train hazard --seeds 3 --out runs/hazard``, or ``tyche train``."""

from __future__ import annotations

import sys

from agents.cli.train import train
from tyche_env.errors import UserError

if __name__ == "__main__":
    try:
        train()
    except UserError as error:
        sys.exit(f"error: {error}")
