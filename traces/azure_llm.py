"""The Azure LLM inference data sets: one row a request to a language model, with its numbers of tokens.

Three sets of the Azure public data set have this form, and the file itself tells which it is:

- 2023: Patel et al., "Splitwise: Efficient Generative LLM Inference Using Phase Splitting", ISCA'24; files
  ``AzureLLMInferenceTrace_{code,conv}.csv``; an hour of 2023-11-16.
- 2024: Stojkovic et al., "DynamoLLM: Designing LLM Inference Clusters for Performance and Energy Efficiency", HPCA'25;
  files ``AzureLLMInferenceTrace_{code,conv}_1week.csv``; a week of May 2024 each.
- 2025: Qiu et al., "ModServe: Modality- and Stage-Aware Resource Disaggregation for Scalable Multimodal Model Serving",
  SoCC'25; file ``AzureLMMInferenceTrace_multimodal.csv.gz``; a week of October 2024, with numbers of images.

The data give no run times: a linear model of tokens and images does (:class:`~traces.tokens.TokenCost`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from traces.errors import FileName, TraceError
from traces.requests import Pieces
from traces.tables import CsvFile, Kind, Progress
from traces.tokens import LONGEST_US, TokenCost
from traces.trace import Trace

LICENCE = "CC-BY 4.0"

_MULTIMODAL = "Azure LMM inference 2025 (Qiu et al., SoCC'25)"
_BY_YEAR = {
    2023: "Azure LLM inference 2023 (Patel et al., ISCA'24)",
    2024: "Azure LLM inference 2024 (Stojkovic et al., HPCA'25)",
}
_TIME, _IMAGES, _CONTEXT, _GENERATED = "TIMESTAMP", "NumImages", "ContextTokens", "GeneratedTokens"


def read_azure_llm(requests: FileName, cost: TokenCost | None = None, progress: Progress | None = None) -> Trace:
    """Read the requests; all of them are to one function, named after the file.

    Args:
        requests: CSV, plain or packed, with TIMESTAMP (2023-11-16 18:15:46.6805900, in UTC; an offset or Z may follow,
            and a fraction of zero may be missing), ContextTokens and GeneratedTokens; NumImages makes it the set of
            2025, else the year of its first time says which it is.
        cost: How tokens and images become run time.
        progress: Told how far the reading is.

    Returns:
        The trace, from the first request on.  Of a year of which no set is published, its licence is unknown.

    Raises:
        TraceError: With file, row and column: a missing column, a time or a number that cannot be read, a run time
            above a day.
    """
    cost = cost or TokenCost()
    pieces = Pieces()
    rows = 0
    file = CsvFile(requests, progress)
    kinds: dict[str, Kind] = {_TIME: "text", _CONTEXT: "count", _GENERATED: "count"}
    images = _IMAGES in file.header
    if images:
        kinds[_IMAGES] = "count"
    for part in file.batches(kinds):
        time = pd.to_datetime(pd.Series(part[_TIME]), format="ISO8601", utc=True, errors="coerce")
        unread = time.isna().to_numpy()
        run_us = cost.run_us(part[_CONTEXT], part[_GENERATED], part[_IMAGES] if images else 0)
        for wrong, name, problem in (
            (unread, _TIME, "is not a time, expected YYYY-MM-DD hh:mm:ss.fffffff"),
            (run_us > LONGEST_US, _GENERATED, f"tokens make a run time above a day ({cost.told(images)})"),
        ):
            if wrong.any():
                row = int(np.argmax(wrong))
                raise TraceError.at(requests, f"{part[name][row]} {problem}", row=rows + row + 2, column=name)
        rows += len(run_us)
        pieces.add(time_us=time.to_numpy(dtype="datetime64[us]").astype(np.int64), run_us=run_us.astype(np.int64))
    arrival_us = pieces.take("time_us")
    first_us = int(arrival_us.min())
    arrival_us -= first_us
    first = pd.Timestamp(first_us, unit="us")
    source = _MULTIMODAL if images else _BY_YEAR.get(first.year, "")
    return Trace.build(
        names=[Path(requests).name.partition(".")[0]],
        arrival_us=arrival_us,
        arrival_function=np.zeros(len(arrival_us), np.int32),
        duration_us=pieces.take("run_us"),
        end_us=int(arrival_us.max()) + 1,
        source=f"{f'{source}, ' if source else ''}{Path(requests).name}; {cost.told(images)}",
        licence=LICENCE if source else "unknown",
        window=f"from {first} on",
        expansion="none",
        start_us=first_us,
    )
