"""Public traces that need no reader of their own: which column is what, and what their authors say about rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from traces.errors import FileName, TraceError
from traces.mapped import Clock, ColumnMap, Remark, read_mapped
from traces.repairs import BadRows
from traces.rows import columns_in
from traces.tables import Progress
from traces.tokens import TokenCost
from traces.trace import Trace


@dataclass(frozen=True, slots=True)
class Preset:
    """A family of traces.

    Attributes:
        source: the data set, and the paper to cite.
        licence: of the data.
        header: columns of which no other trace has all; None: files are never told by them, but by name.
        maps: which column is what; the first counts whose columns are all there.
        remarks: what is counted, and changes nothing.
        clock: what its times count from.
    """

    source: str
    licence: str
    header: frozenset[str] | None
    maps: tuple[ColumnMap, ...]
    remarks: tuple[Remark, ...] = ()
    clock: Clock = "told"

    def map_for(self, path: FileName, columns: Sequence[str]) -> ColumnMap:
        """The columns of a file.

        Raises:
            TraceError: it lacks one.
        """
        for chosen in self.maps:
            if set(chosen.names()) <= set(columns):
                return chosen
        lacking = [name for name in self.maps[-1].names() if name not in columns]
        problem = f"there is no such column, which {self.source.partition(' (')[0]} has"
        raise TraceError.at(path, problem, column=lacking[0])

    def read(
        self,
        path: FileName,
        progress: Progress | None = None,
        *,
        bad_rows: BadRows = "fail",
        cost: TokenCost | None = None,
    ) -> Trace:
        """Read a file; arguments and errors as in :func:`~traces.mapped.read_mapped`.

        Raises:
            TraceError: Also, costs of tokens are given, though the file gives run times.
        """
        columns = columns_in(path)
        chosen = self.map_for(path, columns)
        if cost is not None and not chosen.has_tokens:
            named = chosen.end or chosen.duration
            raise TraceError.at(path, "gives run times: leave the costs of tokens out", column=named)
        told = [remark for remark in self.remarks if remark.column in columns]
        trace = read_mapped(path, chosen, progress, bad_rows=bad_rows, cost=cost, remarks=told, clock=self.clock)
        source = f"{self.source}, {trace.metadata.source}"
        return replace(trace, metadata=replace(trace.metadata, source=source, licence=self.licence))


def _columns(**roles: str) -> ColumnMap:
    return ColumnMap.model_validate(roles)


_BURSTGPT = {"time": "Timestamp", "time_unit": "s", "function": "Model"}
_CHUTES = {"time": "started_at", "time_unit": "iso", "end": "completed_at"}
_CHUTES_HEADER = frozenset({"invocation_id", "chute_id", "instance_id", "started_at", "completed_at"})
_CHUTES_SOURCE = "Chutes (Nixon et al., VLDB 2027)"

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "burstgpt": Preset(
            source="BurstGPT (Wang et al., KDD'25)",
            licence="CC-BY 4.0",
            header=frozenset({"Timestamp", "Model", "Request tokens", "Response tokens", "Log Type"}),
            maps=(
                _columns(**_BURSTGPT, duration="Elapsed time"),
                _columns(**_BURSTGPT, context_tokens="Request tokens", generated_tokens="Response tokens"),
            ),
            remarks=(
                Remark(
                    "Response tokens",
                    frozenset({"0", "0.0"}),
                    "a request that failed (Response tokens 0): kept, since it arrived",
                ),
            ),
            clock="midnight",
        ),
        "mooncake": Preset(
            source="Mooncake (Qin et al., FAST'25)",
            licence="Apache-2.0 (of its repository)",
            header=frozenset({"timestamp", "input_length", "output_length", "hash_ids"}),
            maps=(
                _columns(
                    time="timestamp", time_unit="ms", context_tokens="input_length", generated_tokens="output_length"
                ),
            ),
        ),
        "chutes": Preset(
            source=_CHUTES_SOURCE,
            licence="CC-BY 4.0",
            header=_CHUTES_HEADER,
            maps=(_columns(**_CHUTES, function="chute_id"),),
            # its first request is put at 1970-01-01 00:00:00
            clock="unknown",
        ),
        "chutes-endpoints": Preset(
            source=_CHUTES_SOURCE,
            licence="CC-BY 4.0",
            header=None,
            maps=(_columns(**_CHUTES, function="function_name"),),
            # its first request is put at 1970-01-01 00:00:00
            clock="unknown",
        ),
        "swissai": Preset(
            source="SwissAI serving trace (OSDI'26)",
            licence="other: see the data set's card",
            header=frozenset({"status", "created_at", "finished_at", "model", "reported_token_output"}),
            maps=(_columns(time="created_at", time_unit="iso", end="finished_at", function="model"),),
            remarks=(
                Remark("status", frozenset({"ERROR"}), "a request that failed (status ERROR): kept, since it arrived"),
            ),
        ),
    }
)
"""The families by the names that ``--family`` takes."""


def preset_of(columns: Sequence[str]) -> str | None:
    """The family that a file with these columns is of, if it is unmistakable."""
    for name, preset in PRESETS.items():
        if preset.header is not None and preset.header <= set(columns):
            return name
    return None
