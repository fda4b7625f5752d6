"""A function of your own, to be measured: it counts words with a table that it loads.

tyche profile memory docs/examples/my_functions.py
tyche profile measure words --functions docs/examples/my_functions.py --container-mb 512 --out measured.csv
"""

from real_backend import OwnFunction


def load():
    """Load the model; here it is made instead of read."""
    import numpy as np

    return np.random.default_rng(0).random((2000, 500))


def infer(model, payload):
    """Answer one request."""
    return {"score": float(model[int(payload.get("seed", 0)) % len(model)].sum())}


FUNCTIONS = {"words": OwnFunction(["numpy"], load, infer, hold_mb=60, peak_mb=80)}
