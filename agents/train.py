"""Train an agent by a recipe: ``python -m agents.train hazard --seeds 3 --out runs/hazard``, or ``tyche train``."""

from __future__ import annotations

import sys

from agents.cli.train import train
from tyche_env.cli import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], train, "python -m agents.train"))
