"""The pictures of ``concepts.md``, drawn from runs of the simulator.

``python docs/pictures.py`` writes them to ``docs/images``.  The functions and arrivals are made up, with round times
long enough to be seen; what happens to them is what the engine does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agents.evidence.figures import GRID, INK, SOFT, STAGE_COLOURS
from agents.playing.timeline import LOADING, Timeline, timeline_of
from tyche_env import Scenario
from tyche_env.simulate import simulate
from tyche_env.world import (
    AfterRun,
    FunctionTable,
    Kernel,
    Prewarm,
    Settings,
    StartType,
    World,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

IMAGES = Path(__file__).with_name("images")
NAMES = ("A", "B")
COLOURS = ("#9db8e8", "#f0c08a")
"""Of what is held, by function."""
STAGES = ("warming", "library", "model", "inference")
S = 1_000_000
_ROW: dict[str, int] = {
    "tenant": 0,
    "container_mb": 2000,
    "hold_mb": 800,
    "peak_mb": 800,
    "gpu_mb": 0,
    "init_us": 3 * S,
    "library_us": 4 * S,
    "model_us": 6 * S,
    "transfer_us": 0,
    "inference_us": 3 * S,
    "gpu_inference_us": 3 * S,
    "sigma_ppm": 0,
}


@dataclass(frozen=True, slots=True)
class Story:
    """A small world and what its picture is called.

    Attributes:
        name: of the file.
        title: above the picture.
        arrivals: second and function of each request, from the start of what is shown.
        before: the same before that, in the warm-up.
        length_s: what is shown.
        warm_up_s: what is not.
        settings: of the engine.
    """

    name: str
    title: str
    arrivals: tuple[tuple[float, int], ...]
    length_s: int
    settings: Settings
    before: tuple[tuple[float, int], ...] = ()
    warm_up_s: int = 0

    @property
    def world(self) -> World:
        """One node with room for two containers, two functions, these requests."""
        arrivals = sorted([*self.before, *((self.warm_up_s + at, function) for at, function in self.arrivals)])
        return World(
            functions=FunctionTable.from_rows([_ROW, _ROW]),
            node_memory_mb=np.array([4000]),
            gpu_node=np.zeros(0, np.int64),
            gpu_memory_mb=np.zeros(0, np.int64),
            arrival_us=np.array([round(at * S) for at, _ in arrivals]),
            arrival_function=np.array([function for _, function in arrivals], np.int32),
            arrival_duration_us=np.zeros(0, np.int64),
            score_from_us=self.warm_up_s * S,
            end_us=(self.warm_up_s + self.length_s) * S,
            settings=self.settings,
            names=NAMES,
        ).validate()


def _every(gap_s: float, first_s: float, before_s: float, function: int) -> tuple[tuple[float, int], ...]:
    return tuple((float(at), function) for at in np.arange(first_s, before_s, gap_s))


STORIES = (
    Story(
        "cold-start",
        "Cold starts: the container is gone 30 s after each run, and its process with the run",
        arrivals=((5, 0), (90, 0)),
        length_s=180,
        settings=Settings(keep_alive_us=30 * S),
    ),
    Story(
        "keep-alive",
        "Keep-alive: container and process wait 120 s for the next request",
        arrivals=((5, 0), (90, 0)),
        length_s=180,
        settings=Settings(keep_alive_us=120 * S, after_run_platform=AfterRun.KEEP),
    ),
    Story(
        "pre-warm",
        "Pre-warming (Histogram): the container goes after the run and comes back before the next request",
        arrivals=_every(150, 15, 200, 0),
        before=_every(150, 15, 3000, 0),
        warm_up_s=3000,
        length_s=300,
        settings=Settings(prewarm=Prewarm.HISTOGRAM, after_run_platform=AfterRun.KEEP),
    ),
    Story(
        "pre-load",
        "Pre-loading (Tyche): A is loaded into the idle container of B, and off-loaded after a long silence",
        arrivals=((5, 0), (115, 0), *_every(40, 10, 310, 1)),
        before=_every(40, 10, 400, 1),
        warm_up_s=400,
        length_s=310,
        settings=Settings(kernel=Kernel.TYCHE, keep_alive_us=45 * S, busy_counts=True),
    ),
)


def log_of(world: World) -> NDArray[Any]:
    """The scored requests of a run."""
    log = simulate(world).log
    assert log is not None
    return log


def draw(axis: Axes, story: Story) -> None:
    """Containers as bars over time: what they hold, and the stages of each run."""
    world = story.world
    seen, log = timeline_of(world), log_of(world)
    for line, (_, _, from_s, to_s) in enumerate(seen.containers):
        axis.barh(line, to_s - from_s, left=from_s, height=0.8, color="#eef1f5", edgecolor=SOFT, linewidth=0.8)
    for line, function, kind, from_s, to_s in seen.stays:
        hatch = "////" if kind == LOADING else None
        shelf = line + (0.14, -0.14)[function]
        axis.barh(
            shelf, to_s - from_s, left=from_s, height=0.26, color=COLOURS[function], hatch=hatch, edgecolor="white"
        )
    for line, stages in runs(seen, log):
        for stage, from_s, to_s in stages:
            axis.barh(line, to_s - from_s, left=from_s, height=0.8, color=STAGE_COLOURS[stage])
    top = len(seen.containers) - 0.35
    for row in log:
        at_s = (int(row["arrival_us"]) - world.score_from_us) / S
        text = f"{NAMES[row['function']]}\n{StartType(row['start_type']).name.lower()}"
        if int(row["function"]) == 0:
            axis.annotate(text, (at_s, top), ha="center", va="bottom", fontsize=8, color=INK)
        axis.plot([at_s], [top - 0.08], marker="v", color=INK if int(row["function"]) == 0 else SOFT, markersize=4)
    axis.set_ylim(-0.6, top + 0.75)
    axis.set_xlim(0, story.length_s)
    axis.set_yticks(range(len(seen.containers)), [f"container {line + 1}" for line in range(len(seen.containers))])
    axis.set_xlabel("seconds")
    axis.set_title(story.title, loc="left", fontsize=10, fontweight="bold", color=INK)


def runs(seen: Timeline, log: NDArray[Any]) -> Iterator[tuple[int, list[tuple[str, float, float]]]]:
    """Container and stages, each from and to, of every run that was watched."""
    for (line, function, _, from_s, _), row in zip(seen.runs, log, strict=True):
        assert function == row["function"]
        stages = []
        at_s = from_s + float(row["scheduling_us"]) / S
        for stage in STAGES:
            took_s = float(row[f"{stage}_us"]) / S
            stages.append((stage, at_s, at_s + took_s))
            at_s += took_s
        yield line, stages


def legend(axis: Axes) -> None:
    """What colours mean, below the picture."""
    from matplotlib.patches import Patch

    patches = [Patch(facecolor=STAGE_COLOURS[stage], label=stage) for stage in STAGES]
    patches += [Patch(facecolor=colour, label=f"{name} held") for name, colour in zip(NAMES, COLOURS, strict=True)]
    patches += [
        Patch(facecolor="white", edgecolor=SOFT, hatch="////", label="loading"),
        Patch(facecolor="#eef1f5", edgecolor=SOFT, label="container"),
    ]
    axis.figure.legend(handles=patches, loc="outside lower center", ncols=8, fontsize=8, frameon=False)


def stages_by_start() -> dict[str, dict[str, float]]:
    """Mean milliseconds of each stage, by what the request met: Tyche on the first test window of ``small``."""
    log = log_of(Scenario.load("small").world(kernel="tyche"))
    return {
        start.name.lower(): {
            stage: float(log[f"{stage}_us"][log["start_type"] == start].mean()) / 1000
            for stage in ("warming", "library", "model", "transfer", "inference")
        }
        for start in StartType
        if (log["start_type"] == start).any()
    }


def draw_requests(axis: Axes, means: Mapping[str, Mapping[str, float]]) -> None:
    """One bar a start type, its stages one after the other."""
    for line, stages in enumerate(means.values()):
        at_ms = 0.0
        for stage, took_ms in stages.items():
            label = stage if line == 0 else None
            axis.barh(line, took_ms, left=at_ms, height=0.62, color=STAGE_COLOURS[stage], label=label)
            at_ms += took_ms
        axis.annotate(f" {at_ms:,.0f} ms", (at_ms, line), va="center", fontsize=9, color=INK)
    axis.set_yticks(range(len(means)), list(means))
    axis.margins(x=0.12)
    axis.set_xlabel("milliseconds from the start of the request's service")
    title = "One request, stage by stage, by what it met (means, Tyche, first test window of small)"
    axis.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)
    axis.figure.legend(loc="outside lower center", ncols=5, fontsize=8, frameon=False)


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib as mpl

    plain: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "tyche",
        "font.family": "sans-serif",
        "axes.edgecolor": GRID,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.labelcolor": SOFT,
        "xtick.color": SOFT,
        "ytick.color": INK,
        "hatch.linewidth": 0.6,
    }
    with mpl.rc_context(plain):
        yield


def write(folder: Path, stories: Sequence[Story] = STORIES) -> list[Path]:
    """Draw everything; the same code makes the same files.

    Returns:
        The paths.
    """
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with _style():
        for story in stories:
            canvas = Figure(figsize=(9.5, 2.6), layout="constrained", facecolor="white")
            axis = canvas.subplots()
            draw(axis, story)
            legend(axis)
            paths.append(folder / f"{story.name}.svg")
            canvas.savefig(paths[-1], metadata={"Date": None})
        canvas = Figure(figsize=(9.5, 2.9), layout="constrained", facecolor="white")
        draw_requests(canvas.subplots(), stages_by_start())
        paths.append(folder / "request.svg")
        canvas.savefig(paths[-1], metadata={"Date": None})
    return paths


if __name__ == "__main__":
    for _path in write(IMAGES):
        print(_path)
