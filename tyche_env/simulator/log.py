"""The log of a run: one record a request, written when the request starts to be served."""

from __future__ import annotations

import numpy as np

LOG_DTYPE = np.dtype(
    [
        ("request", np.int64),
        ("arrival_us", np.int64),
        ("queue_us", np.int64),
        ("scheduling_us", np.int64),
        ("warming_us", np.int64),
        ("library_us", np.int64),
        ("model_us", np.int64),
        ("transfer_us", np.int64),
        ("inference_us", np.int64),
        ("end_us", np.int64),
        ("function", np.int32),
        ("node", np.int32),
        ("container", np.int32),
        ("start_type", np.int8),
        ("kept", np.int8),
        ("on_gpu", np.int8),
        ("status", np.int8),
    ]
)
"""Fields of a record.

``request`` is the row of the world's arrival table, ``container`` the slot of the container, ``start_type`` a
:class:`~tyche_env.codes.StartType`; ``kept`` and ``on_gpu`` are 0 or 1; ``status`` is 0 for success.  The stages
``queue_us`` ... ``inference_us`` follow each other without a gap from ``arrival_us`` to ``end_us``.
"""
