"""Hold what is likely to be requested within a minute; drop what is not.  Run it with

tyche evaluate --scenario small --policy none --policy tyche --policy docs/examples/my_policy.py
"""

import numpy as np

from tyche_env.spaces import column


class Policy:
    """Any object with this method is a policy; models of stable-baselines3 are such objects too."""

    def predict(self, observation, state=None, episode_start=None, deterministic=True):
        functions = observation["functions"]  # one row a function; docs/environment.md lists the columns
        chance = functions[:, column("functions", "censored_60s")]
        hold = np.clip(0.05 + 0.95 * chance, 0.051, 1.0)
        wish = np.where(chance > 0.02, hold, -1.0)  # above 0.05: hold, with that priority; below -0.05: off-load
        wish[functions[:, column("functions", "arrivals_count")] == 0] = 0.0  # in between: leave as it is
        return np.stack([wish, wish], axis=1).astype(np.float32), state  # container memory, GPU
