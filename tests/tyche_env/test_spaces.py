"""Columns of the observation, the spaces they make, and the page that lists them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tyche_env.spaces import TABLES, action_space, as_markdown, column, highs, observation_space, positions, table

UNITS = {"_s": "s", "_per_s": "1/s", "_mb": "MB", "_count": "count", "_s_per_mb": "s/MB"}


def test_names_are_unique_and_carry_their_unit() -> None:
    for columns in TABLES.values():
        names = [c.name for c in columns]
        assert len(set(names)) == len(names)
        for c in columns:
            suffixes = [suffix for suffix in UNITS if c.name.endswith(suffix)]
            if suffixes:
                assert c.unit == UNITS[max(suffixes, key=len)], c.name
            else:
                assert c.unit in ("probability", "code", "ratio") or c.name == "group_nodes", c.name
            assert c.high > 0
            assert c.meaning


def test_a_column_is_found_by_its_name() -> None:
    assert column("functions", "arrivals_count") == 0
    assert column("cluster", "time_of_day_s") == 1
    with pytest.raises(KeyError, match=r"functions has no column 'rate'; there are arrivals_count, .* and 24 more"):
        column("functions", "rate")
    with pytest.raises(KeyError, match="did you mean censored_60s"):
        column("functions", "censord_60s")
    with pytest.raises(KeyError):
        column("rows", "rate")
    for name, columns in TABLES.items():
        assert positions(name)._asdict() == {c.name: column(name, c.name) for c in columns}


def test_the_observation_space_is_flat_bounded_and_float32() -> None:
    space = observation_space(functions=5, nodes=3, gpus=2)
    rows = {"functions": 5, "nodes": 3, "gpus": 2, "cluster": 1}
    assert set(space) == {*rows, "functions_mask", "nodes_mask", "gpus_mask"}
    for box in space.values():
        assert box.dtype == np.float32
        assert np.isfinite(box.high).all()  # type: ignore[attr-defined]
        assert (box.low == 0).all()  # type: ignore[attr-defined]
    for name, count in rows.items():
        assert space[name].shape == (count * len(TABLES[name]),)
        assert np.array_equal(space[name].high, np.tile(highs(name), count))  # type: ignore[attr-defined]
    assert space["gpus_mask"].shape == (2,)


def test_a_table_without_rows_gets_one_of_padding() -> None:
    space = observation_space(functions=5, nodes=3, gpus=0)
    assert space["gpus"].shape == (len(TABLES["gpus"]),)
    assert space["gpus_mask"].shape == (1,)


def test_a_table_of_an_observation_is_a_view_of_rows() -> None:
    observation = observation_space(5, 3, 2).sample()
    functions = table(observation, "functions")
    assert functions.shape == (5, len(TABLES["functions"]))
    assert np.shares_memory(functions, observation["functions"])
    assert functions[2, 7] == observation["functions"][2 * len(TABLES["functions"]) + 7]


def test_the_action_space_has_two_values_a_function() -> None:
    space = action_space(5)
    assert space.shape == (5, 2)
    assert space.dtype == np.float32
    assert space.low.min() == space.low.max() == -1
    assert space.high.min() == space.high.max() == 1


def test_the_reference_page_lists_the_columns_as_they_are() -> None:
    page = (Path(__file__).parents[2] / "docs" / "environment.md").read_text(encoding="utf-8")
    for name in TABLES:
        assert as_markdown(name) in page, f"docs/environment.md: renew {name} from `python -m tyche_env.spaces`"
