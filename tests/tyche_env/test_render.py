"""Pictures of the cluster, as text and as pixels."""

from __future__ import annotations

import colorsys
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.tyche_env.conftest import MakeEnv
from tests.tyche_env.simulator.test_rules import SECOND, a_world, function
from tyche_env.render import _BUSY, _EDGE, _FREE, _IDLE, _colour, ansi, rgb_array
from tyche_env.simulator.backend import SimulatedBackend
from tyche_env.world import Decision, Kernel, Prewarm, World

STAGES = {"container_mb": 1000, "hold_mb": 400, "peak_mb": 500, "transfer": 1, "gpu_inference": 1}


def a_cluster() -> World:
    """One container fits.  f0, on the GPU, until 18; f1, queued from 12, until 28; f0 is to be held from 30."""
    world = a_world(
        [function(gpu_mb=300, **STAGES), function(**STAGES)],
        [(10, 0), (12, 1)],
        nodes=(1500,),
        gpu_mb=1000,
        kernel=Kernel.AGENT,
        event_mode=False,
    )
    return replace(world, names=("resnet", "bert"))


def run(seconds: tuple[float, ...]) -> tuple[list[str], list[bytes]]:
    """Text and picture at some times, the pre-loader holding f0 from 30 s on."""
    world, backend = a_cluster(), SimulatedBackend()
    backend.reset(world)
    texts, pictures, held = [], [], False
    for second in seconds:
        if second >= 30 and not held:
            held = True
            backend.advance_until_us(30 * SECOND)
            priority = np.array([[1 << 20, 1 << 20], [0, 0]])
            backend.set_priorities(np.array([[Decision.HOLD] * 2, [Decision.LEAVE] * 2], np.int8), priority)
        backend.advance_until_us(round(second * SECOND))
        texts.append(ansi(backend.state, world.names))
        pictures.append(rgb_array(backend.state).tobytes())
    return texts, pictures


def test_text_tells_nodes_containers_residents_gpus_and_queues() -> None:
    texts, _ = run((5, 15, 29, 31, 35.5, 37))
    node = "node 0: 1500 MB ="
    assert texts == [
        f"t = 5.0 s   waiting 0   held 0\n{node} 0 busy + 0 idle (0 pre-loaded) + 1500 free, GPU 0/1000 MB, queue 0",
        f"t = 15.0 s   waiting 1   held 0\n"
        f"{node} 1000 busy + 0 idle (0 pre-loaded) + 500 free, GPU 300/1000 MB, queue 1\n"
        "  [  0] 1000 MB  run resnet",
        f"t = 29.0 s   waiting 0   held 1\n"
        f"{node} 0 busy + 1000 idle (400 pre-loaded) + 500 free, GPU 0/1000 MB, queue 0\n"
        "  [  0] 1000 MB  bert",
        f"t = 31.0 s   waiting 0   held 1\n"
        f"{node} 0 busy + 1000 idle (900 pre-loaded) + 500 free, GPU 0/1000 MB, queue 0\n"
        "  [  0] 1000 MB  resnet~ bert",
        f"t = 35.5 s   waiting 0   held 2\n"
        f"{node} 0 busy + 1000 idle (800 pre-loaded) + 500 free, GPU 300/1000 MB, queue 0\n"
        "  [  0] 1000 MB  resnet bert",
        f"t = 37.0 s   waiting 0   held 2\n"
        f"{node} 0 busy + 1000 idle (800 pre-loaded) + 500 free, GPU 300/1000 MB, queue 0\n"
        "  [  0] 1000 MB  resnet* bert",
    ]


def test_every_change_of_the_cluster_changes_the_picture() -> None:
    _, pictures = run((5, 11, 15, 20, 29, 31, 35.5, 37))
    assert len(set(pictures)) == len(pictures)
    _, pictures = run((3, 5))
    assert pictures[0] == pictures[1]  # nothing happened


GPU_USED, GPU_LEFT, WAITING = (60, 140, 90), (220, 232, 222), (200, 60, 50)
LEFT, BAR, ROW, WIDE = 8, 684, 26, 456
"""Where bars begin, how long they are, how high, and how long a container of 1000 of 1500 MB is, in pixels."""


def picture_at(second: float) -> tuple[SimulatedBackend, NDArray[np.uint8]]:
    """The cluster at a time before anything is held, with its picture."""
    backend = SimulatedBackend()
    backend.reset(a_cluster())
    backend.advance_until_us(round(second * SECOND))
    return backend, rgb_array(backend.state)


def pixels(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> int:
    """How many there are of a colour."""
    return int((picture == np.array(colour, np.uint8)).all(axis=-1).sum())


@pytest.mark.parametrize("free_mb", [1000, 750, 0])
def test_the_bar_of_a_gpu_is_as_long_as_its_memory_is_used(free_mb: int) -> None:
    backend, _ = picture_at(5)
    backend.state.gpus["free_mb"] = free_mb
    picture = rgb_array(backend.state)
    used = round((BAR - 2) * (1 - free_mb / 1000))
    assert pixels(picture, GPU_USED) == pytest.approx(6 * used, abs=6)
    assert pixels(picture, GPU_USED) + pixels(picture, GPU_LEFT) == 6 * (BAR - 2)
    if used:
        # from the left, below the node's bar
        assert picture[LEFT + ROW + 3, LEFT].tolist() == list(GPU_USED)


@pytest.mark.parametrize(("waiting", "high"), [(0, 0), (3, 6), (13, 26), (50, 26)])
def test_the_red_mark_grows_by_two_rows_a_request_up_to_the_height_of_the_bar(waiting: int, high: int) -> None:
    backend, _ = picture_at(5)
    backend.state.nodes["queue_length"] = waiting
    red = (rgb_array(backend.state) == WAITING).all(axis=-1)
    assert red.sum() == 10 * high
    # it grows from the bottom of the bar
    assert np.flatnonzero(red.any(axis=1)).tolist() == list(range(LEFT + ROW - high, LEFT + ROW))


def test_functions_have_hues_a_golden_angle_apart() -> None:
    for f in range(40):
        hue = colorsys.hsv_to_rgb(f * (5**0.5 - 1) / 2 % 1, 1, 1)
        assert _colour(f) == pytest.approx([70 + 150 * part for part in hue], abs=1)
    assert len({_colour(f) for f in range(40)}) == 40


def test_nodes_lie_below_each_other_with_their_gpus_between() -> None:
    world = a_world([function(gpu_mb=300, **STAGES)], [(1, 0)], nodes=(1500, 3000), gpu_mb=1000)
    backend = SimulatedBackend()
    backend.reset(world)
    picture = rgb_array(backend.state)
    # margins of 8; a bar of 26, 2 and a GPU's 6 with 8 below them, and a bar of 26
    assert picture.shape == (84, 720, 3)
    rows = [int((picture[row] == _FREE).all(axis=-1).sum()) for row in range(84)]
    assert [row for row, count in enumerate(rows) if count] == [*range(8, 34), *range(50, 76)]
    assert set(rows) == {0, BAR}
    gpu = [row for row in range(84) if pixels(picture[row : row + 1], GPU_LEFT)]
    assert gpu == list(range(36, 42))


def test_a_container_is_as_long_as_its_share_of_the_nodes_memory() -> None:
    _, empty = picture_at(5)
    _, runs = picture_at(15)
    changed = (empty != runs).any(axis=-1)[LEFT : LEFT + ROW, : LEFT + BAR]
    assert np.flatnonzero(changed.any(axis=0))[[0, -1]].tolist() == [LEFT, LEFT + WIDE - 1]
    assert changed[:, LEFT : LEFT + WIDE].all()
    # what is left of the node is free, and a running container is dark with its function's colour in it
    assert pixels(runs[:, : LEFT + BAR], _FREE) == (BAR - WIDE) * ROW
    assert pixels(runs, _colour(0)) == 5 * (WIDE - 2 - 4)
    assert pixels(runs, _BUSY) == (WIDE - 2) * (ROW - 2) - pixels(runs, _colour(0))
    assert pixels(runs, _EDGE) == 2 * WIDE + 2 * (ROW - 2)


def test_residents_lie_side_by_side_as_long_as_their_memory_and_half_as_high_while_they_load() -> None:
    backend, picture = picture_at(29)
    inside = WIDE - 2
    assert pixels(picture, _colour(1)) == int(0.4 * inside) * (ROW - 2)
    assert pixels(picture, _IDLE) == (inside - int(0.4 * inside)) * (ROW - 2)
    backend.set_priorities(np.array([[Decision.HOLD] * 2, [Decision.LEAVE] * 2], np.int8), np.full((2, 2), 1 << 20))
    backend.advance_until_us(31 * SECOND)
    loads = rgb_array(backend.state)
    # the newest comes first: f0 loads, which takes 500 MB, and f1 is held in 400
    first, second = (np.flatnonzero((loads == _colour(f)).all(axis=-1).any(axis=0)) for f in (0, 1))
    assert (first[0], second[0]) == (LEFT + 1, LEFT + 1 + inside // 2)
    assert pixels(loads, _colour(0)) == inside // 2 * (ROW - 2) // 2
    assert pixels(loads, _colour(1)) == pytest.approx(0.4 * inside * (ROW - 2), abs=ROW)
    backend.advance_until_us(37 * SECOND)
    held = rgb_array(backend.state)[LEFT : LEFT + ROW]
    # on the GPU, too: its upper four rows say so
    assert pixels(held, GPU_USED) == 4 * int(0.4 * inside)
    assert pixels(held, _colour(0)) == int(0.4 * inside) * (ROW - 2 - 4)


def test_a_container_that_starts_and_a_nameless_function_are_shown() -> None:
    # Ten regular gaps teach the histogram policy to pre-warm: the container starts 9/10 of two minutes after a run.
    world = a_world(
        [function()],
        [(130 * i, 0) for i in range(12)],
        end=1500,
        kernel=Kernel.AGENT,
        event_mode=False,
        prewarm=Prewarm.HISTOGRAM,
    )
    backend = SimulatedBackend()
    backend.reset(world)
    seen = set()
    for second in (20, *np.arange(1290, 1500, 0.5)):
        backend.advance_until_us(round(second * SECOND))
        seen |= {line.split("MB  ")[1] for line in ansi(backend.state).splitlines() if line.startswith("  [")}
        rgb_array(backend.state)
    assert seen == {"starting", "run f0", "f0", "-"}


def test_render_modes_of_the_environment(make_env: MakeEnv) -> None:
    text, picture = make_env(render_mode="ansi"), make_env(render_mode="rgb_array")
    pictures = []
    for env in (text, picture):
        env.reset(seed=0)
        for _ in range(60):
            env.step(np.ones((env.max_functions, 2), np.float32))
            if env is picture:
                pictures.append(env.render())
    assert text.render().startswith("t = 600.0 s   waiting ")
    assert text.render().count("node ") == 2
    assert text.world.names[0]
    assert {frame.shape for frame in pictures} == {pictures[0].shape}
    assert pictures[0].ndim == 3
    assert pictures[0].shape[2] == 3
    assert pictures[0].dtype == np.uint8
    assert len({frame.tobytes() for frame in pictures}) > 10


def test_without_a_render_mode_there_is_a_hint(make_env: MakeEnv) -> None:
    env = make_env()
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode='ansi' or 'rgb_array'"):
        assert env.render() is None


def test_frames_can_be_recorded() -> None:
    env = gym.make("tyche_env:tyche/Preload-v1", scenario="small", render_mode="rgb_array")
    frames = gym.wrappers.RenderCollection(env)
    frames.reset(seed=0)
    for _ in range(3):
        frames.step(env.action_space.sample())
    collected = frames.render()
    assert isinstance(collected, list)
    assert len(collected) == 4
