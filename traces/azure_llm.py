"""The Azure LLM inference 2023 data set: one row a request to a language model, with its numbers of tokens.

Patel et al., "Splitwise: Efficient Generative LLM Inference Using Phase Splitting", ISCA'24; files
``AzureLLMInferenceTrace_code.csv`` and ``AzureLLMInferenceTrace_conv.csv`` of the Azure public data set.  The data
give no run times: a linear model of the tokens does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from traces.errors import FileName, TraceError
from traces.requests import Pieces
from traces.tables import CsvFile, Progress
from traces.trace import Trace

SOURCE = "Azure LLM inference 2023 (Patel et al., ISCA'24)"
LICENCE = "CC-BY 4.0"

_TIME, _CONTEXT, _GENERATED = "TIMESTAMP", "ContextTokens", "GeneratedTokens"
_LONGEST_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class TokenCost:
    """Run time of a request: base + context tokens x prefill + generated tokens x decode.

    The defaults are assumed round numbers, measured nowhere: give those of your own model.

    Attributes:
        base_ms: What every request takes.
        prefill_ms_per_token: For each token of the context, which are read together.
        decode_ms_per_token: For each token generated, one after the other.
    """

    base_ms: float = 50.0
    prefill_ms_per_token: float = 0.25
    decode_ms_per_token: float = 30.0

    def __post_init__(self) -> None:
        for name in ("base_ms", "prefill_ms_per_token", "decode_ms_per_token"):
            if not 0 <= getattr(self, name) < 1e6:
                raise TraceError(f"{name}: needs milliseconds from 0 to 1000000, got {getattr(self, name)}")

    def __str__(self) -> str:
        return (
            f"run time = {self.base_ms:g} ms + {self.prefill_ms_per_token:g} ms x context tokens "
            f"+ {self.decode_ms_per_token:g} ms x generated tokens"
        )


def read_azure_llm2023(requests: FileName, cost: TokenCost | None = None, progress: Progress | None = None) -> Trace:
    """Read the requests; all of them are to one function, named after the file.

    Args:
        requests: CSV, plain or gzip, with TIMESTAMP (YYYY-MM-DD hh:mm:ss.fffffff), ContextTokens and GeneratedTokens.
        cost: How tokens become run time.
        progress: Told how far the reading is.

    Returns:
        The trace, from the first request on.

    Raises:
        TraceError: With file, row and column: a missing column, a time or a number of tokens that cannot be read, a run
            time above a day.
    """
    cost = cost or TokenCost()
    pieces = Pieces()
    rows = 0
    for part in CsvFile(requests, progress).batches({_TIME: "text", _CONTEXT: "count", _GENERATED: "count"}):
        time = pd.to_datetime(pd.Series(part[_TIME]), format="ISO8601", utc=True, errors="coerce")
        unread = time.isna().to_numpy()
        tokens_ms = part[_CONTEXT] * cost.prefill_ms_per_token + part[_GENERATED] * cost.decode_ms_per_token
        run_us = np.rint((cost.base_ms + tokens_ms) * 1000.0)
        for wrong, name, problem in (
            (unread, _TIME, "is not a time, expected YYYY-MM-DD hh:mm:ss.fffffff"),
            (run_us > _LONGEST_US, _GENERATED, f"tokens make a run time above a day ({cost})"),
        ):
            if wrong.any():
                row = int(np.argmax(wrong))
                raise TraceError.at(requests, f"{part[name][row]} {problem}", row=rows + row + 2, column=name)
        rows += len(run_us)
        pieces.add(time_us=time.to_numpy(dtype="datetime64[us]").astype(np.int64), run_us=run_us.astype(np.int64))
    arrival_us = pieces.take("time_us")
    first_us = int(arrival_us.min())
    arrival_us -= first_us
    return Trace.build(
        names=[Path(requests).name.partition(".")[0]],
        arrival_us=arrival_us,
        arrival_function=np.zeros(len(arrival_us), np.int32),
        duration_us=pieces.take("run_us"),
        end_us=int(arrival_us.max()) + 1,
        source=f"{SOURCE}, {Path(requests).name}; {cost}",
        licence=LICENCE,
        window=f"from {pd.Timestamp(first_us, unit='us')} on",
        expansion="none",
        start_us=first_us,
    )
