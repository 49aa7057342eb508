"""Strips as PNG files: one per kind of event, named by time and event, read only where they lie."""

import numpy as np
import pytest
from tests.inference.test_annotation import annotate
from tests.inference.test_report import few, source_for

from ecgkan.errors import OutputExistsError
from ecgkan.inference import figures, strips
from ecgkan.inference.moments import find_moments
from ecgkan.inference.strips import write_strips


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    monkeypatch.setattr(figures, "DPI", 40)


def test_each_event_and_some_uncertain_beats_get_a_file(tmp_path):
    annotations = few("N" * 30 + "VVV" + "N" * 30 + "S" + "N" * 30, duration_s=80.0, record="a.b")
    source = source_for(annotations)
    files = write_strips(tmp_path / "strips", annotations, source, lead_index=0, most_uncertain=2)
    assert sorted(files) == sorted((tmp_path / "strips").iterdir())
    assert all(file.read_bytes().startswith(b"\x89PNG\r\n") for file in files)
    names = [file.name for file in files]
    assert any(name.startswith("a_b_0h00m") and "longest-ventricular-run" in name for name in names)
    assert sum("uncertain-" in name for name in names) == 2
    shown = {kind for name in names for kind in name.removesuffix(".png").split("_")[-1].split("+")}
    assert {moment.kind for moment in find_moments(annotations)} - shown == set()


def test_the_names_tell_the_hour(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(strips, "write_figure", lambda figure, path, **_: drawn.append((figure, path.name)))
    annotations = annotate([5 * 3600 * 360 + 300, 5 * 3600 * 360 + 650], "NV", duration_s=86_400.0)
    source = source_for(annotations)
    write_strips(tmp_path, annotations, source, lead_index=1, most_uncertain=0)
    (figure, name), *_ = drawn
    assert name == "rec_4h59m58s_isolated-ventricular-beat+longest-rr-interval+lowest-heart-rate.png"
    assert source.samples_read <= 8 * 360
    (axes,) = figure.axes
    x, y = axes.lines[0].get_data()
    np.testing.assert_allclose(y, source.signal(np.round(x * 360).astype(int)) + 1, atol=1e-9)
    assert [text.get_text() for text in axes.texts][-2:] == ["N", "V"]
    assert axes.get_xticklabels()[0].get_text() == "4:59:58"


def test_a_recording_of_seconds_is_one_strip(tmp_path):
    annotations = annotate([300, 600], "NV", duration_s=3.0, record="$x_{")
    (file,) = write_strips(tmp_path, annotations, source_for(annotations), lead_index=0, most_uncertain=0)
    assert file.name == "_x___0h00m00s_recording.png"


@pytest.mark.parametrize("record", ["$\\frac{", "心電図", "a\x00b\udce9"])
def test_names_that_a_font_or_a_formula_would_stumble_over(tmp_path, record):
    annotations = annotate([], "", duration_s=2.0, record=record)
    source = source_for(annotations, missing=True)
    assert len(write_strips(tmp_path, annotations, source, lead_index=0)) == 1


def test_nothing_is_written_where_one_of_the_files_exists(tmp_path):
    annotations = annotate([300, 600], "NV", duration_s=3.0)
    (file,) = write_strips(tmp_path, annotations, source_for(annotations), lead_index=0, most_uncertain=0)
    before = file.read_bytes()
    with pytest.raises(OutputExistsError):
        write_strips(tmp_path, annotations, source_for(annotations), lead_index=0)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    assert file.read_bytes() == before
