"""Hold what is likely to be requested within a minute, and drop what is not.

tyche evaluate --scenario small --policy none --policy tyche --policy docs/examples/my_policy.py
"""

import numpy as np

from tyche_env.spaces import column, table


class Policy:
    """Any object with this method is a policy; models of stable-baselines3 are such objects too."""

    def predict(self, observation, state=None, episode_start=None, deterministic=True):
        """Choose for every function: below -0.05 off-load, above 0.05 hold with that priority, between leave."""
        functions = table(observation, "functions")  # one row a function; tyche_env.spaces describes the columns
        chance = functions[:, column("functions", "censored_60s")]
        wish = np.where(chance > 0.02, np.clip(0.05 + 0.95 * chance, 0.051, 1.0), -1.0)
        wish[functions[:, column("functions", "arrivals_count")] == 0] = 0.0
        return np.stack([wish, wish], axis=1).astype(np.float32), state  # container memory, GPU
