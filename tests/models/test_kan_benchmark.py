"""The benchmark compares layers that compute the same, and notices one that does not."""

import json
from pathlib import Path

import pytest
from benchmarks.kan_layer import CoxDeBoorLayer, compare, largest_difference, quartiles, time_interleaved, write_json

from ecgkan.models.kan import KANLayer


@pytest.mark.parametrize("grid_range", [(-3.0, 3.0), (-1.0, 1.0)])
def test_plain_layer_computes_the_same(grid_range: tuple[float, float]) -> None:
    layer = KANLayer(256, 64, grid_range=grid_range, init="reference")
    assert largest_difference(CoxDeBoorLayer(layer), layer) < 1e-4


def test_another_function_is_refused() -> None:
    with pytest.raises(RuntimeError, match="differs from our layer"):
        largest_difference(KANLayer(256, 64), KANLayer(256, 64))


def test_every_setting_is_timed() -> None:
    layer = KANLayer(256, 64)
    for batch in (1, 128):
        for what in ("forward", "forward + backward"):
            ours, plain = compare({"ecgkan": layer, "plain": CoxDeBoorLayer(layer)}, batch=batch, what=what, rounds=2)
            assert (ours.contender, ours.ratio, plain.contender) == ("ecgkan", 1.0, "plain")
            assert (plain.batch, plain.what) == (batch, what)
            assert plain.median_us > 0
            assert plain.ratio_lower_quartile <= plain.ratio <= plain.ratio_upper_quartile


def test_runs_are_interleaved() -> None:
    calls: list[str] = []
    steps = {name: lambda name=name: calls.append(name) for name in "ab"}
    times = time_interleaved(steps, calls=2, rounds=5)
    assert {name: len(values) for name, values in times.items()} == {"a": 5, "b": 5}
    rounds = [calls[i : i + 4] for i in range(0, len(calls), 4)]
    assert all(sorted(one) == ["a", "a", "b", "b"] for one in rounds)


def test_quartiles() -> None:
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 3.0, 4.0)


def test_report_is_written_whole(tmp_path: Path) -> None:
    write_json(tmp_path / "report.json", {"machine": {"cpu": "x"}})
    assert json.loads((tmp_path / "report.json").read_text()) == {"machine": {"cpu": "x"}}
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
