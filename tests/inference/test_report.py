"""The report says what the summary says, draws the signal to scale, stays small, and holds nothing from outside."""

import datetime
import re
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.inference.test_annotation import annotate

from ecgkan import __version__
from ecgkan.aami import CLASSES
from ecgkan.errors import OutputExistsError
from ecgkan.inference.annotation import UNCERTAIN_BELOW
from ecgkan.inference.holter import summarize
from ecgkan.inference.markup import css_string, element
from ecgkan.inference.moments import ROW_S, choose_strips, choose_uncertain, find_moments, time_text
from ecgkan.inference.report import duration_text, write_report
from ecgkan.inference.report_charts import RR_LIMITS_S, bin_width_s, tachogram_svg, time_ticks, trend
from ecgkan.inference.report_svg import UNITS, Part, paper_definitions, strip_svg, trace_path
from ecgkan.inference.rhythm import rr_intervals

SVG = "{http://www.w3.org/2000/svg}"


@dataclass
class FakeSource:
    """A recording that makes up its signal when it is read, and counts what was read."""

    n_samples: int
    fs: float = 360.0
    name: str = "rec"
    leads: tuple[str, ...] = ("MLII", "V1")
    started: datetime.datetime | None = None
    source: Path | None = Path("/somewhere/private/rec.hea")
    notes: tuple[str, ...] = ()
    missing: bool = False
    samples_read: int = field(default=0)

    @property
    def duration_s(self) -> float:
        return self.n_samples / self.fs

    def read(self, start: int, stop: int, columns: Sequence[int]) -> np.ndarray:
        assert 0 <= start < stop <= self.n_samples
        self.samples_read += stop - start
        return np.column_stack([self.signal(np.arange(start, stop)) + column for column in columns])

    def signal(self, samples: np.ndarray) -> np.ndarray:
        if self.missing:
            return np.full(len(samples), np.nan)
        return np.sin(2 * np.pi * 1.3 * samples / self.fs) + 0.2 * np.sin(2 * np.pi * 11.7 * samples / self.fs)


def source_for(annotations, **changes) -> FakeSource:
    return FakeSource(round(annotations.duration_s * annotations.fs), fs=annotations.fs, **changes)


def report_of(annotations, path, *, source=None, **options) -> str:
    source = source or source_for(annotations)
    write_report(path, annotations, source, summary=summarize(annotations), lead_index=0, **options)
    return path.read_text(encoding="utf-8")


def a_day(beats: int = 110_000):
    """24 hours with every kind of event, doubt and noise."""
    rng = np.random.default_rng(0)
    rr_s = rng.normal(86_395 / beats, 0.05, beats).clip(0.3, 1.3) + 0.1 * np.sin(np.arange(beats) / 5000)
    rr_s *= 86_390 / rr_s.sum()
    letters = rng.choice(list(CLASSES), beats, p=[0.86, 0.05, 0.07, 0.01, 0.01])
    samples = np.round(np.cumsum(rr_s) * 250).astype(np.int64)
    edges = np.sort(rng.choice(86_390, 1000, replace=False)) * 250
    noisy = np.column_stack([edges[::2], edges[1::2]])
    noisy[:, 1] = np.minimum(noisy[:, 1], noisy[:, 0] + 2500)
    kept = np.searchsorted(noisy[:, 0], samples, side="right") == np.searchsorted(noisy[:, 1], samples, side="right")
    annotations = annotate(samples[kept], letters[kept], fs=250.0, duration_s=86_400.0)
    probabilities = annotations.probabilities.copy()
    sure = rng.random(len(annotations)) < 0.97
    probabilities[sure] = 0.01 + 0.95 * np.eye(5)[[CLASSES.index(c) for c in annotations.classes[sure]]]
    return replace(
        annotations,
        probabilities=probabilities.astype(np.float32),
        noisy=noisy,
        noisy_reasons=tuple("noise" if i % 2 else "flat" for i in range(len(noisy))),
        left_out=samples[~kept],
        mean_beats=np.tile(np.sin(np.arange(256) / 20), (5, 1)).astype(np.float32),
        started=datetime.datetime(2024, 3, 1, 10, 17, 30),
    )


@pytest.fixture(scope="module")
def day():
    return a_day()


@pytest.fixture(scope="module")
def day_report(day, tmp_path_factory) -> tuple[str, FakeSource]:
    source = source_for(day)
    return report_of(day, tmp_path_factory.mktemp("day") / "day.html", source=source, note="A note."), source


def few(letters: str = "NNNVNNNVVNNSNNFNQNVVVNNNVNVNVNN", **changes):
    """A minute or so with a bit of everything."""
    n = len(letters)
    samples = 200 + 300 * np.arange(n)
    mean_beats = np.full((5, 256), np.nan, np.float32)
    for i, letter in enumerate(CLASSES):
        if letter in letters:
            mean_beats[i] = 0.5 * i
    return annotate(samples, letters, **{"duration_s": 60.0, "mean_beats": mean_beats} | changes)


def decode(path: str) -> list[np.ndarray]:
    """Read an SVG path of M, m, l, h, v, H, V, z by the letter of the standard: one `[n, 2]` per sub-path."""
    pieces, place, points = [], np.zeros(2), []
    for command, numbers in re.findall(r"([MmlhvHVz])([^MmlhvHVz]*)", path):
        values = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", numbers)]
        if command in "Mm":
            pieces.append(points)
            place = np.array(values[:2]) + (place if command == "m" else 0)
            points = [place]
        elif command == "l":
            for step in np.reshape(values, (-1, 2)):
                place = place + step
                points.append(place)
        elif command in "hvHV":
            axis = "hv".index(command.lower())
            place = place.copy()
            place[axis] = values[0] + (place[axis] if command.islower() else 0)
            points.append(place)
    return [np.array(points) for points in [*pieces, points] if len(points)]


class Tags(HTMLParser):
    """What an HTML parser sees, which knows nothing of XML's self-closing tags."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))


def test_the_report_is_a_well_formed_document_in_english_with_named_figures(day_report):
    document, _ = day_report
    assert document.startswith('<!DOCTYPE html>\n<html lang="en">')
    root = ET.fromstring(document)
    assert root.findtext("head/title") == "ECG report rec"
    drawings = [svg for svg in root.iter(f"{SVG}svg") if svg.get("role") == "img"]
    assert len(drawings) > 40
    assert all(svg.get("aria-label") for svg in drawings)
    identities = [node.get("id") for node in root.iter() if node.get("id")]
    assert len(identities) == len(set(identities))


def test_elements_that_html_does_not_let_close_themselves_are_closed(day_report):
    assert not re.findall(r"<(?!(?:meta|br|path|rect|line|circle|use|polyline)\b)\w+[^<>]*/>", day_report[0])


def test_nothing_is_loaded_from_anywhere_and_every_link_leads_somewhere(day_report):
    document, _ = day_report
    parser = Tags()
    parser.feed(document)
    tags = {tag for tag, _ in parser.seen}
    assert tags.isdisjoint({"script", "link", "img", "iframe", "object", "image", "base", "form"})
    identities = {attributes.get("id") for _, attributes in parser.seen}
    links = [attributes["href"] for _, attributes in parser.seen if "href" in attributes]
    assert len(links) > 10
    assert all(link[0] == "#" and link[1:] in identities for link in links)
    assert not any("src" in attributes or "style" in attributes for _, attributes in parser.seen)
    rest = document.replace("http://www.w3.org/2000/svg", "")
    assert "//" not in rest and "url(" not in rest and "@import" not in rest


def test_a_day_is_small_quickly_written_and_hardly_read(day, tmp_path):
    source, summary = source_for(day), summarize(day)
    begun = time.process_time()
    path = write_report(tmp_path / "day.html", day, source, summary=summary, lead_index=0)
    assert time.process_time() - begun < 6
    assert path.stat().st_size < 1_500_000
    assert 0 < source.samples_read / source.n_samples < 0.005


def test_the_report_of_a_day_has_every_section_and_every_kind_of_strip(day, day_report):
    root = ET.fromstring(day_report[0])
    sections = [section.get("id") for section in root.iter("section")]
    assert sections == ["summary", "course", "means", "strips", "uncertain", "excluded-stretches", "making"]
    kinds = {moment.kind for moment in find_moments(day)}
    assert kinds >= {"typical", "ventricular-couplet", "longest-rr-interval", "highest-heart-rate", "excluded"}
    shown = {p.get("id") for p in root.iter("p")} - {None}
    assert shown == kinds
    assert len(root.findall(".//section[@id='uncertain']//figure")) == 24
    assert len(root.findall(".//section[@id='course']//tbody/tr")) == 24


def test_the_report_says_what_the_summary_says(day, day_report):
    document, summary = day_report[0], summarize(day)
    text = " ".join("".join(ET.fromstring(document).find("body").itertext()).split())
    for figure in (
        *(f"{summary.counts[letter]:,}" for letter in CLASSES),
        f"{summary.ventricular.couplets:,}",
        f"{summary.heart_rate.mean:.0f}/min",
        f"{summary.pauses.longest_rr_s:.2f} s",
        f"{summary.variability.sdnn_ms:.0f} ms",
        f"longest {summary.ventricular.bigeminy.longest_beats}",
        f"{summary.hours[7].beats:,}",
    ):
        assert figure in text
    assert f"ecgkan {__version__}" in text
    assert day.weights_sha256 in text
    assert "A note." in text
    assert text.count("medical device") == 1
    assert "01 Mar 2024, 10:17:30" in text
    assert "rec.hea" in text and "private" not in document


def test_episodes_of_flutter_are_listed_and_the_longest_leads_to_its_strip(tmp_path):
    flutter = np.array([[9000, 9720], [10_800, 14_400], [18_000, 18_360]])
    started = datetime.datetime(2024, 3, 1, 10, 0)
    rows, links = {}, {}
    for name, changes in (("plain", {}), ("clock", {"started": started})):
        root = ET.fromstring(report_of(few(flutter=flutter, **changes), tmp_path / f"{name}.html"))
        table = root.find(".//div[@class='table flutter']/table")
        assert "3 episodes of 13.0 s together" in table.findtext("caption")
        rows[name] = [["".join(cell.itertext()) for cell in row] for row in table.find("tbody")]
        links[name] = [link.get("href") for link in table.iter("a")]
        assert root.find(".//p[@id='ventricular-flutter']") is not None
    assert rows["plain"] == [
        ["0:00:25", "0:00:27", "2.0 s"],
        ["0:00:30", "0:00:40", "10.0 s"],
        ["0:00:50", "0:00:51", "1.0 s"],
    ]
    assert rows["clock"][1] == ["10:00:30", "10:00:40", "10.0 s"]
    assert links == {"plain": ["#ventricular-flutter"], "clock": ["#ventricular-flutter"]}
    many = np.arange(1, 101)[:, None] * 200 + np.array([0, 100])
    many[10:50, 1] += 50
    root = ET.fromstring(report_of(few(flutter=many), tmp_path / "many.html"))
    table = root.find(".//div[@class='table flutter']/table")
    assert "the 40 longest of them" in table.findtext("caption") and len(table.find("tbody")) == 40
    assert ET.fromstring(report_of(few(), tmp_path / "none.html")).find(".//div[@class='table flutter']") is None


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a\x00b\udce9c & ]]>"])
def test_text_of_strangers_stays_text(tmp_path, text):
    noisy = np.array([[5000, 6000]])
    annotations = few(
        "NNNVNNNVVNNSNN", record=text, lead=text, model=text, rpeaks=text, lead_reason=text, weights_sha256=text,
        notes=(text,), noisy=noisy, noisy_reasons=(text,),
    )  # fmt: skip
    source = source_for(annotations, leads=(text, text), source=Path("folder") / text.replace("/", "_"))
    document = report_of(annotations, tmp_path / "report.html", source=source, note=text)
    root = ET.fromstring(document)
    parser = Tags()
    parser.feed(document)
    assert {"script", "img"}.isdisjoint(tag for tag, _ in parser.seen)
    readable = text.replace("\x00", "\ufffd").replace("\udce9", "\ufffd")
    assert root.findtext("body/main/header/h1") == f"Record {readable}"
    style = root.findtext("head/style")
    assert text not in style and "</" not in style


@pytest.mark.parametrize(
    "annotations",
    [
        annotate([], "", duration_s=2.0),
        annotate([300], "V", duration_s=2.0),
        annotate([300, 500], "NN", duration_s=2.0),
        annotate([300, 300], "VV", duration_s=2.0),
        annotate([], "", duration_s=86_400.0),
        annotate([40_000], "N", duration_s=600.0),
        annotate([100, 100_000], "NV", duration_s=300.0, rr_before_s=np.full(2, np.nan), rr_after_s=np.full(2, np.nan)),
        annotate([], "", duration_s=20.0, noisy=np.array([[0, 7200]]), noisy_reasons=("missing",)),
        few("V" * 40),
        few("Q" * 40),
        few(started=datetime.datetime(2024, 12, 31, 23, 59, 59, 900_000), inverted=True),
    ],
    ids=[
        *("no beats", "one beat", "two beats", "two at once", "a day of nothing", "one in ten minutes"),
        *("no intervals", "nothing but noise", "only V", "only Q", "inverted"),
    ],
)
@pytest.mark.parametrize("missing", [False, True])
def test_recordings_with_hardly_anything_in_them_get_a_report(tmp_path, annotations, missing):
    source = source_for(annotations, missing=missing)
    document = report_of(annotations, tmp_path / "report.html", source=source)
    root = ET.fromstring(document)
    assert not re.search(r"\b(nan|inf|None)\b", document.partition("<body>")[2])
    assert root.find(".//section[@id='strips']//figure") is not None
    assert ("looks inverted" in document) == annotations.inverted


def test_a_value_that_is_no_voltage_does_not_overflow(tmp_path):
    source = source_for(few())
    source.signal = lambda samples: np.where(samples % 777 == 0, -1e300, np.where(samples % 500 == 0, np.inf, 0.1))
    root = ET.fromstring(report_of(few(), tmp_path / "report.html", source=source))
    numbers = [float(n) for path in root.iter(f"{SVG}path") for n in re.findall(r"-?\d+", path.get("d"))]
    assert max(map(abs, numbers)) < 10_000


def test_what_exists_is_left_and_the_same_is_written_every_time(tmp_path):
    first = report_of(few(), tmp_path / "a.html")
    assert report_of(few(), tmp_path / "b.html") == first
    source = source_for(few())
    with pytest.raises(OutputExistsError):
        report_of(few("VVV"), tmp_path / "a.html", source=source)
    assert source.samples_read == 0
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == first
    assert report_of(few("VVV"), tmp_path / "a.html", overwrite=True) != first


def test_a_source_that_fails_leaves_nothing_behind(tmp_path):
    source = source_for(few())

    def torn(samples):
        raise OSError(5, "Input/output error")

    source.signal = torn
    with pytest.raises(OSError, match="Input/output"):
        report_of(few(), tmp_path / "report.html", source=source)
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.one_of(st.floats(-400, 400), st.just(float("nan"))), min_size=1, max_size=400),
    st.sampled_from([0.25, 0.9, 1.389, 5.0]),
)
def test_a_drawn_curve_is_the_curve(values, step):
    x, y = np.arange(len(values)) * step, np.array(values)
    pieces = decode(trace_path(x, y))
    assert len(pieces) == np.count_nonzero(np.diff(np.concatenate([[0], np.isfinite(y).astype(int)])) == 1)
    drawn = np.concatenate(pieces) if pieces else np.zeros((0, 2))
    assert np.array_equal(drawn, np.round(drawn))
    finite = np.isfinite(y)
    for px, py in zip(x[finite], y[finite], strict=True):
        # Each sample lies within 2.5 units (an eighth of a millimetre) of the line drawn.
        near = [_distance(np.array([px, py]), piece) for piece in pieces]
        assert min(near) <= 2.5
    if finite.any():
        assert drawn[:, 1].max() == pytest.approx(y[finite].max(), abs=2.1)
        assert drawn[:, 1].min() == pytest.approx(y[finite].min(), abs=2.1)


def _distance(point: np.ndarray, line: np.ndarray) -> float:
    start, step = line[:-1], np.diff(line, axis=0)
    if not len(start):
        return float(np.hypot(*(line[0] - point)))
    length = (step**2).sum(axis=1)
    share = np.divide(((point - start) * step).sum(axis=1), length, out=np.zeros(len(step)), where=length > 0)
    nearest = start + share.clip(0, 1)[:, None] * step
    return float(np.hypot(*(nearest - point).T).min())


@pytest.mark.parametrize("fs", [100.0, 360.0, 2000.0])
def test_a_strip_is_drawn_at_25_mm_per_second_and_10_mm_per_millivolt(fs):
    annotations = annotate(np.round(np.array([1.0, 2.0, 3.0]) * fs), "NVN", fs=fs, duration_s=7.0)
    source = source_for(annotations)
    (strip,) = choose_strips(annotations)
    part = Part(0, source.signal(np.arange(source.n_samples)))
    svg = ET.fromstring(strip_svg(annotations, strip, [part], label="strip"))
    width_mm, box = float(svg.get("width")[:-2]), [float(edge) for edge in svg.get("viewBox").split()]
    assert box[2] / width_mm == UNITS
    paper = svg.find(f"{SVG}svg")
    assert float(paper.get("width")) / UNITS == 25 * 7
    trace = np.concatenate(decode(paper.find(f"{SVG}path[@class='trace']").get("d")))
    expected = -10 * np.interp(trace[:, 0] / UNITS / 25, np.arange(source.n_samples) / fs, part.values)
    offset = np.median(trace[:, 1] / UNITS - expected)
    assert offset % 5 == pytest.approx(0, abs=0.06) or offset % 5 == pytest.approx(5, abs=0.06), "0 mV is on a line"
    assert np.abs(trace[:, 1] / UNITS - offset - expected).max() < 0.3
    letters = [(text.text, float(text.get("x"))) for text in svg.iter(f"{SVG}text") if "letter" in text.get("class")]
    left = float(paper.get("x"))
    assert [(letter[0], round((x - left) / UNITS / 25, 2)) for letter, x in letters] == [
        ("N", 1.0), ("V", 2.0), ("N", 3.0),
    ]  # fmt: skip
    calibration = np.concatenate(decode(svg.find(f"{SVG}path[@class='trace']").get("d")))
    assert np.ptp(calibration[:, 1]) == 10 * UNITS


def test_the_grid_has_lines_every_millimetre_and_every_five():
    grids = ET.fromstring(paper_definitions())
    for mm in (1, 5):
        lines = decode(grids.find(f".//*[@id='grid{mm}']").get("d"))
        upright = sorted(line[0, 0] / UNITS for line in lines if line[0, 0] == line[1, 0])
        level = sorted(line[0, 1] / UNITS for line in lines if line[0, 1] == line[1, 1])
        assert upright == list(range(0, 176, mm))
        assert level == list(range(0, 61, mm))


def test_uncertain_left_out_and_excluded_are_marked_in_the_strip():
    annotations = few(
        "NVN", duration_s=7.0, left_out=np.array([1500]), noisy=np.array([[1400, 1600]]), noisy_reasons=("flat",)
    )
    probabilities = annotations.probabilities.copy()
    probabilities[:, :] = 0.01 + 0.95 * np.eye(5)[[0, 2, 0]]
    probabilities[1] = [0.3, 0.1, 0.4, 0.1, 0.1]
    annotations = replace(annotations, probabilities=probabilities)
    (strip,) = choose_strips(annotations)
    svg = ET.fromstring(strip_svg(annotations, strip, [Part(0, np.zeros(2520))], label="strip"))
    assert [text.text for text in svg.iter(f"{SVG}text") if "letter" in text.get("class")] == ["N", "V?", "N", "×"]
    assert [text.text for text in svg.iter(f"{SVG}text") if text.get("class") == "interval"] == ["833", "833"]
    (shade,) = [rect for rect in svg.iter(f"{SVG}rect") if rect.get("class") == "excluded"]
    start, width = float(shade.get("x")), float(shade.get("width"))
    assert (start / UNITS / 25, width / UNITS / 25) == pytest.approx((1400 / 360, 200 / 360), abs=0.002)


def test_the_tachogram_keeps_every_extreme_of_a_day(day):
    svg = ET.fromstring(tachogram_svg(day))
    figures = {text.text: float(text.get("y")) - 18 for text in svg.iter(f"{SVG}text") if text.get("class") == "figure"}
    (low, bottom), (high, top) = (choose((float(text), y) for text, y in figures.items()) for choose in (min, max))
    rr_s = np.concatenate([[np.nan], rr_intervals(day)])
    known = np.isfinite(rr_s)
    y = bottom + (np.log(rr_s.clip(low, high)) - np.log(low)) / (np.log(high) - np.log(low)) * (top - bottom)
    x = (10 + day.samples / day.fs / day.duration_s * 171) * UNITS
    dots = svg.find(f"{SVG}path[@class='dots']")
    side = float(dots.get("stroke-width"))
    covered = set()
    for line in decode(dots.get("d")):
        rows = range(int(line[0, 1] // side), int(line[1, 1] // side))
        covered |= {(int(line[0, 0] // side), row) for row in rows}
    plain = np.flatnonzero(known & (day.classes == "N"))
    missed = [
        i
        for i in plain
        if not covered & {(int((x[i] + a) // side), int((y[i] + b) // side)) for a in (-1, 1) for b in (-1, 1)}
    ]
    assert missed == []
    for letter in "SVFQ":
        marks = np.array([piece[0] for piece in decode(svg.find(f"{SVG}path[@class='mark-{letter}']").get("d"))[::2]])
        of_class = known & (day.classes == letter)
        assert len(marks) <= 4 * (171 * UNITS / 24 + 1)
        for at, outermost in ((np.argmin(y[of_class]), y[of_class].min()), (np.argmax(y[of_class]), y[of_class].max())):
            assert np.abs(marks - [x[of_class][at], outermost]).max(axis=1).min() < 30


def test_intervals_beyond_the_tachogram_are_counted():
    annotations = annotate(np.array([0, 1, 2, 8, 9, 16]) * 360, "NNNNNN", duration_s=60.0)
    assert f"2 above {RR_LIMITS_S[1]:g} s, up to 7.0 s" in tachogram_svg(annotations)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(300, 3_000_000), st.sampled_from(CLASSES)), min_size=1, max_size=80), st.data())
def test_moments_are_those_of_the_summary(steps, data):
    samples = np.cumsum([min(step, 400 if step % 7 else 10**7) for step, _ in steps])
    annotations = annotate(samples, [letter for _, letter in steps], duration_s=float(samples[-1] / 360 + 1))
    summary, moments = summarize(annotations), {moment.kind: moment for moment in find_moments(annotations)}
    assert len(moments) == len(find_moments(annotations))
    for name, ectopy in (("ventricular", summary.ventricular), ("supraventricular", summary.supraventricular)):
        assert (f"{name}-couplet" in moments) == (ectopy.couplets > 0)
        assert (f"isolated-{name}-beat" in moments) == (ectopy.isolated > 0)
        times = {
            f"longest-{name}-run": ectopy.runs.longest_time_s,
            f"longest-{name}-bigeminy": ectopy.bigeminy.longest_time_s,
            f"longest-{name}-trigeminy": ectopy.trigeminy.longest_time_s,
        }
        assert {kind: moments[kind].start_s for kind in times if kind in moments} == {
            kind: time_s for kind, time_s in times.items() if time_s is not None
        }
        fastest = moments.get(f"fastest-{name}-run", moments.get(f"longest-{name}-run"))
        assert (fastest and fastest.start_s) == ectopy.runs.fastest_time_s
    assert ("longest-pause" in moments) == (summary.pauses.number > 0)
    if summary.heart_rate.max is not None:
        assert f"{summary.heart_rate.max:.0f}/min" in moments["highest-heart-rate"].detail
        fast = moments["highest-heart-rate"]
        assert fast.start_s <= summary.heart_rate.max_time_s <= fast.stop_s
    for moment in moments.values():
        strip = next(strip for strip in choose_strips(annotations) if moment in strip.moments)
        assert 0 <= strip.start_s <= moment.start_s < strip.stop_s
        assert strip.start_s < annotations.duration_s


def test_a_strip_shows_the_whole_event_with_signal_around_it():
    letters = "N" * 60 + "V" * 5 + "N" * 60
    moment = next(moment for moment in find_moments(few(letters, duration_s=110.0)) if "run" in moment.kind)
    strip = next(s for s in choose_strips(few(letters, duration_s=110.0)) if moment in s.moments)
    assert strip.start_s < moment.start_s - 1 and strip.stop_s > moment.stop_s + 1
    assert moment.detail == "5 beats at 72/min"
    assert moment.title == "Longest ventricular run"


def test_a_moment_that_a_strip_shows_already_shares_it():
    steps = np.full(100, 300)
    steps[50:52] = 200, 400  # an early beat and the pause after it
    letters = ["V" if i == 50 else "N" for i in range(100)]
    sure = (0.01 + 0.95 * np.eye(5)[[CLASSES.index(letter) for letter in letters]]).astype(np.float32)
    annotations = annotate(np.cumsum(steps), letters, duration_s=90.0, probabilities=sure)
    shown = {moment.kind: strip for strip in choose_strips(annotations) for moment in strip.moments}
    assert shown["longest-rr-interval"] is shown["isolated-ventricular-beat"]
    assert shown["typical"] is not shown["isolated-ventricular-beat"]
    assert shown.keys() == {moment.kind for moment in find_moments(annotations)}


def test_a_recording_of_few_rows_is_shown_as_a_whole():
    (strip,) = choose_strips(few("NNVNN", duration_s=20.0))
    assert (strip.start_s, strip.row_s, strip.rows) == (0.0, ROW_S, 3)
    (strip,) = choose_strips(annotate([300], "N", duration_s=2.04))
    assert strip.stop_s == 3.0


def test_uncertain_beats_are_the_least_sure_of_each_doubt():
    probabilities = np.full((6, 5), 0.01, np.float32)
    probabilities[:, 0] = [0.96, 0.55, 0.6, 0.65, 0.5, 0.96]
    probabilities[:, 2] = [0.01, 0.42, 0.37, 0.32, 0.01, 0.01]
    probabilities[:, 1] = [0.01, 0.01, 0.01, 0.01, 0.47, 0.01]
    annotations = few("NNNNNN", probabilities=probabilities)
    beats = choose_uncertain(annotations, 2)
    assert [(beat.beat, beat.letter, beat.runner_up) for beat in beats] == [(1, "N", "V"), (4, "N", "S")]
    assert [beat.beat for beat in choose_uncertain(annotations, 3)] == [1, 2, 4]
    assert [beat.beat for beat in choose_uncertain(annotations, 24)] == [1, 2, 3, 4]
    assert all(max(beat.probabilities) < UNCERTAIN_BELOW for beat in beats)


def test_hourly_bins_are_the_summarys_hours(day):
    binned, hours = trend(day, 3600.0), summarize(day).hours
    np.testing.assert_allclose(binned.mean, [hour.heart_rate_mean for hour in hours])
    np.testing.assert_allclose(binned.lowest, [hour.heart_rate_min for hour in hours])
    np.testing.assert_allclose(binned.highest, [hour.heart_rate_max for hour in hours])
    burden = binned.burden["V"] + binned.burden["S"]
    np.testing.assert_allclose(burden, [hour.ectopic_burden_percent for hour in hours])


@pytest.mark.parametrize(
    ("duration_s", "bin_s"),
    [(2.0, 10.0), (1806.0, 60.0), (7200.0, 300.0), (86_400.0, 3600.0), (14 * 86_400.0, 14_400.0)],
)
def test_bins_are_minutes_for_half_an_hour_and_hours_for_a_day(duration_s, bin_s):
    assert bin_width_s(duration_s) in (bin_s, 86_400.0)
    assert bin_width_s(duration_s) == bin_s or duration_s > 7 * 86_400


def test_ticks_are_round_by_the_clock():
    ticks = time_ticks(86_400.0, datetime.datetime(2024, 3, 1, 10, 17, 30))
    assert ticks[0] == (6150.0, "12:00")
    assert [text for _, text in ticks[:3]] == ["12:00", "14:00", "16:00"]
    assert [text for _, text in time_ticks(1806.0, None)] == [
        "0 min",
        "5 min",
        "10 min",
        *(f"{m} min" for m in (15, 20, 25, 30)),
    ]


@given(
    st.floats(0.5, 60 * 86_400),
    st.one_of(st.none(), st.datetimes(datetime.datetime(2000, 1, 1), datetime.datetime(2040, 1, 1))),
)
def test_there_are_never_too_many_ticks(duration_s, started):
    ticks = time_ticks(duration_s, started)
    assert len(ticks) <= 14
    assert all(0 <= time_s <= duration_s + 1e-6 for time_s, _ in ticks)


def test_times_and_lengths_are_written_for_readers():
    assert time_text(59.999999999) == "0:01:00"  # a rounding error of the division by fs
    assert time_text(59.9) == "0:00:59"
    assert time_text(3725.96, 1) == "1:02:05.9"
    assert [duration_text(s) for s in (0, 59.96, 3599.6, 86_399.9)] == [
        "0.0 s",
        "1 min 00 s",
        "1 h 00 min",
        "24 h 00 min",
    ]


@given(st.text())
def test_any_text_survives_as_an_element_and_as_a_css_string(text):
    read = ET.fromstring(element("p", text, aria_label=text))
    allowed = re.sub("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)
    assert (read.text or "").replace("\r\n", "\n").replace("\r", "\n") == allowed.replace("\r\n", "\n").replace(
        "\r", "\n"
    )
    literal = css_string(text)
    assert re.fullmatch(r'"(?:[A-Za-z0-9]|\\[0-9a-f]{6})*"', literal)
    back = re.sub(r"\\([0-9a-f]{6})", lambda match: chr(int(match[1], 16)), literal[1:-1])
    assert back == allowed
