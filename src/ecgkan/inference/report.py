"""The report: one HTML file about a classified recording that opens offline, prints to scale and needs no script."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from ecgkan import __version__
from ecgkan.aami import CLASS_MEANINGS, CLASSES
from ecgkan.evaluation.evaluate import MODEL_TITLES
from ecgkan.inference.annotation import CLASS_NAMES, UNCERTAIN_BELOW, BeatAnnotations
from ecgkan.inference.holter import Alternation, Ectopy, HolterSummary, Hour, Runs
from ecgkan.inference.markup import Markup, css_string, element, joined
from ecgkan.inference.moments import ShownStrip, UncertainBeat, choose_strips, choose_uncertain, read_lead, time_text
from ecgkan.inference.report_charts import bin_width_s, mark_svg, tachogram_svg, trend, trend_svg
from ecgkan.inference.report_svg import (
    Part,
    mean_beat_limits,
    mean_beat_svg,
    paper_definitions,
    strip_svg,
    uncertain_svg,
)
from ecgkan.inference.writing import refuse_existing, replacing

if TYPE_CHECKING:
    from ecgkan.data.recording import SignalSource

MOST_UNCERTAIN: Final = 24
"""Uncertain beats that the report draws."""

MOST_EXCLUDED: Final = 40
"""Excluded stretches that the report lists, the longest ones."""

MOST_EPISODES: Final = 40
"""Episodes of ventricular flutter that the report lists, the longest ones."""

UNCERTAIN_HALF_S: Final = 1.1
"""Signal shown on either side of an uncertain beat."""

_SHORT_TABLE: Final = 20
"""Tables of up to so many rows are not broken across pages."""

_NONE: Final = "–"


@dataclass(frozen=True, slots=True, eq=False)
class _Contents:
    """All that the sections are made of."""

    annotations: BeatAnnotations
    source: "SignalSource"
    summary: HolterSummary
    lead_index: int
    note: str | None
    strips: tuple[ShownStrip, ...]

    def read(self, start_s: float, stop_s: float) -> Part:
        return Part(*read_lead(self.source, self.lead_index, start_s, stop_s))

    def clock(self, time_s: float) -> str | None:
        """Return the time of day at so many seconds, or None where the recording's start is not known."""
        return clock_text(self.annotations, time_s)


def write_report(
    path: str | Path,
    annotations: BeatAnnotations,
    source: "SignalSource",
    *,
    summary: HolterSummary,
    lead_index: int,
    note: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the report of a classified recording as one HTML file.

    Parameters
    ----------
    path : path
        The file to write; its folder is made if need be.
    annotations : BeatAnnotations
        The classified beats.
    source : Recording or RecordingFile
        The recording they are of; only the seconds that are drawn are read.
    summary : HolterSummary
        `ecgkan.inference.holter.summarize` of the same annotations.
    lead_index : int
        Column of the lead that was classified.
    note : str, optional
        A line that must go with the results, as `ecgkan.inference.agreement.training_patient_note` gives.
    overwrite : bool
        Replace what is there.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    OutputExistsError
        If the file exists and `overwrite` is False.
    EcgkanError
        If it cannot be written; nothing is changed then.
    """
    path = Path(path)
    refuse_existing([path], overwrite=overwrite)
    contents = _Contents(annotations, source, summary, lead_index, note, choose_strips(annotations))
    document = report_html(contents)
    with replacing(path, overwrite=overwrite) as temporary:
        temporary.write_text(document, encoding="utf-8", newline="\n")
    return path


def report_html(contents: _Contents) -> str:
    """Return the document; it is well-formed XML too."""
    title = f"ECG report {contents.annotations.record}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="generator", content=f"ecgkan {__version__}"),
        element("title", title),
        element("style", Markup(_style(title))),
    )
    sections = (
        _header(contents),
        _summary(contents),
        _course(contents),
        _mean_beats(contents),
        _strips(contents),
        _uncertain(contents),
        _excluded(contents),
        _making(contents),
    )
    body = element("body", paper_definitions(), element("main", *sections))
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def clock_text(annotations: BeatAnnotations, time_s: float) -> str | None:
    """Return the time of day so many seconds after the start, with the day where it would be ambiguous; or None."""
    import datetime

    if annotations.started is None:
        return None
    moment = annotations.started + datetime.timedelta(seconds=max(time_s, 0.0))
    return f"{moment:%H:%M:%S}" if annotations.duration_s <= 86_400 else f"{moment:%d %b %H:%M:%S}"


def duration_text(seconds: float) -> str:
    """Return a length of time in the two units that matter.

    Examples
    --------
    >>> duration_text(86_399.9), duration_text(1805.6), duration_text(2.04)
    ('24 h 00 min', '30 min 06 s', '2.0 s')
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    if round(seconds) < 3600:
        return f"{round(seconds) // 60} min {round(seconds) % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _style(title: str) -> str:
    sheet = files("ecgkan.inference").joinpath("report.css").read_text(encoding="utf-8")
    return f"{sheet}@page {{ @bottom-left {{ content: {css_string(title)}; }} }}\n"


def _header(contents: _Contents) -> Markup:
    annotations = contents.annotations
    duration, beats = duration_text(annotations.duration_s), _number(len(annotations), "beat")
    facts = element("dl", *(joined(element("dt", name), element("dd", value)) for name, value in _facts(contents)))
    notes = [element("li", note) for note in (*_remarks(contents), *annotations.notes)]
    return element(
        "header",
        element("p", "ECG beat report", class_="kind"),
        element("h1", f"Record {annotations.record}" if annotations.record else "Unnamed recording"),
        element("p", f"{duration} of lead {annotations.lead} · {beats} classified", class_="lead"),
        element("p", _DISCLAIMER, class_="disclaimer"),
        facts,
        element("ul", *notes, class_="notes") if notes else None,
    )


_DISCLAIMER: Final = (
    "Made by a research tool, not by a medical device. No physician has reviewed it; it is not meant for diagnosis."
)


def _facts(contents: _Contents) -> Iterator[tuple[str, str]]:
    annotations, source = contents.annotations, contents.source
    if source.source is not None:
        yield "File", Path(source.source).name
    started = annotations.started
    yield "Start", f"{started:%d %b %Y, %H:%M:%S}" if started else "not in the file; times count from the beginning"
    yield "Duration", duration_text(annotations.duration_s)
    reason = f" ({annotations.lead_reason})" if annotations.lead_reason else ""
    others = f"; leads in the file: {', '.join(source.leads)}" if len(source.leads) > 1 else ""
    second = f", and {annotations.second_lead} beside it" if annotations.second_lead else ""
    yield "Lead", f"{annotations.lead}{reason}{second}{others}"
    yield "Sampling rate", f"{annotations.fs:g} Hz"
    yield "R peaks", _origin(annotations.rpeaks)
    yield "Model", MODEL_TITLES.get(annotations.model, annotations.model)


def _origin(rpeaks: str) -> str:
    return {"detector": "found by ecgkan's detector", "given": "handed over by the caller"}.get(
        rpeaks, f"taken from {rpeaks}" if rpeaks.startswith("annotator ") else rpeaks
    )


def _remarks(contents: _Contents) -> Iterator[Markup | str]:
    if contents.note:
        yield contents.note
    if contents.annotations.inverted:
        yield joined(
            element("strong", "The lead looks inverted: "),
            "its QRS complexes point down. It was classified as it was recorded; check the electrodes.",
        )


def _summary(contents: _Contents) -> Markup:
    tables = (_rate_table(contents), _class_table(contents), _ectopy_table(contents), _flutter_table(contents))
    return element(
        "section",
        element("h2", "Summary"),
        element("div", *_tiles(contents.summary), class_="tiles"),
        element("div", *tables, class_="tables"),
        _time_text(contents),
        id="summary",
    )


def _tiles(summary: HolterSummary) -> Iterator[Markup]:
    rate, runs = summary.heart_rate, summary.ventricular.runs
    extremes = "" if rate.min is None else f"{_rounded(rate.min)} to {_rounded(rate.max)} per min"
    yield _tile("Mean heart rate", _rounded(rate.mean), "" if rate.mean is None else "/min", extremes)
    for name, ectopy in (("Ventricular (V)", summary.ventricular), ("Supraventricular (S)", summary.supraventricular)):
        share = "" if ectopy.burden_percent is None else f"{_share(ectopy.burden_percent)} of all beats"
        yield _tile(name, f"{ectopy.beats:,}", "beats", share)
    longest = "" if runs.longest_beats is None else f"longest {runs.longest_beats} beats"
    yield _tile("Ventricular runs", f"{runs.number:,}", "", longest)
    rr_s, pauses = summary.pauses.longest_rr_s, summary.pauses
    number = f"{_number(pauses.number, 'pause')} of {pauses.threshold_s:g} s or more"
    yield _tile("Longest RR interval", _NONE if rr_s is None else f"{rr_s:.2f}", "" if rr_s is None else "s", number)
    time = summary.time
    analysed = _share(_percent(time.analysed_s, time.duration_s))
    yield _tile("Analysed", analysed, "", f"{duration_text(time.excluded_s)} excluded")


def _tile(name: str, value: str, unit: str, detail: str) -> Markup:
    figure = element("p", value, element("small", unit) if unit else None, class_="value")
    return element("div", element("p", name), figure, element("p", detail, class_="detail"), class_="tile")


def _rate_table(contents: _Contents) -> Markup:
    summary, at = contents.summary, _links(contents)
    rate, pauses, variability = summary.heart_rate, summary.pauses, summary.variability
    longest = _NONE if pauses.longest_rr_s is None else f"{pauses.longest_rr_s:.2f} s"
    rows = (
        ("Mean", _per_minute(rate.mean), ""),
        ("Lowest", _per_minute(rate.min), at("lowest-heart-rate", rate.min_time_s)),
        ("Highest", _per_minute(rate.max), at("highest-heart-rate", rate.max_time_s)),
        ("Longest RR interval", longest, at(_longest_kind(summary), pauses.longest_rr_time_s)),
        (f"Pauses of {pauses.threshold_s:g} s or more", f"{pauses.number:,}", ""),
        ("Mean NN interval", _milliseconds(variability.mean_nn_ms), ""),
        ("SDNN", _milliseconds(variability.sdnn_ms), ""),
        ("RMSSD", _milliseconds(variability.rmssd_ms), ""),
    )
    return _table("Heart rate and RR intervals", ("", "", "at"), rows, class_="rates")


def _longest_kind(summary: HolterSummary) -> str:
    return "longest-pause" if summary.pauses.number else "longest-rr-interval"


def _class_table(contents: _Contents) -> Markup:
    summary = contents.summary
    rows: list[tuple[object, ...]] = [
        (_class_name(letter), f"{summary.counts[letter]:,}", _share(summary.burden_percent[letter]))
        for letter in CLASSES
    ]
    rows += [
        ("All classified", f"{summary.beats:,}", ""),
        ("Uncertain among them", f"{summary.uncertain:,}", _share(_percent(summary.uncertain, summary.beats))),
        ("Found, but not classified", f"{summary.left_out:,}", ""),
    ]
    return _table("Beats by class", ("", "beats", "share"), rows, class_="classes")


def _ectopy_table(contents: _Contents) -> Markup:
    ventricular, supraventricular = contents.summary.ventricular, contents.summary.supraventricular
    at = _links(contents)

    def cells(ectopy: Ectopy, name: str) -> tuple[object, ...]:
        runs = ectopy.runs
        return (
            f"{ectopy.beats:,}",
            _share(ectopy.burden_percent),
            _linked(at, f"isolated-{name}-beat", f"{ectopy.isolated:,}"),
            _linked(at, f"{name}-couplet", f"{ectopy.couplets:,}"),
            f"{_number(runs.number, 'run')}, {runs.beats:,} beats" if runs.number else "0",
            _run(at, f"longest-{name}-run", runs, fastest=False),
            _run(at, f"fastest-{name}-run", runs, fastest=True),
            _alternation(at, f"longest-{name}-bigeminy", ectopy.bigeminy),
            _alternation(at, f"longest-{name}-trigeminy", ectopy.trigeminy),
        )

    names = ("Beats", "Burden", "Isolated", "Couplets", "Runs", "Longest run", "Fastest run", "Bigeminy", "Trigeminy")
    columns = (cells(ventricular, "ventricular"), cells(supraventricular, "supraventricular"))
    rows = list(zip(names, *columns, strict=True))
    return _table("Ectopic beats", ("", "ventricular V", "supraventricular S"), rows, class_="ectopy")


def _run(at: "_Links", kind: str, runs: Runs, *, fastest: bool) -> object:
    if runs.longest_beats is None or (fastest and runs.fastest_rate is None):
        return _NONE
    if fastest:
        text = f"{_rounded(runs.fastest_rate)}/min, {runs.fastest_beats} beats at "
        return joined(text, at(kind, runs.fastest_time_s))
    return joined(f"{runs.longest_beats} beats at ", at(kind, runs.longest_time_s))


def _alternation(at: "_Links", kind: str, alternation: Alternation) -> object:
    if not alternation.episodes:
        return "0"
    number = f"{_number(alternation.episodes, 'episode')}, {alternation.beats:,} beats"
    return joined(f"{number}; longest {alternation.longest_beats} at ", at(kind, alternation.longest_time_s))


def _flutter_table(contents: _Contents) -> Markup | None:
    """List the episodes that the annotator marked, the longest of many; the longest is linked to its strip."""
    flutter = contents.summary.flutter
    if not flutter.episodes:
        return None
    lengths_s = np.array(flutter.lengths_s)
    longest = np.sort(np.argsort(-lengths_s, kind="stable")[:MOST_EPISODES]).tolist()
    at = _links(contents)
    rows = [
        (
            at("ventricular-flutter" if i == lengths_s.argmax() else "", flutter.times_s[i]),
            contents.clock(flutter.times_s[i] + lengths_s[i]) or time_text(flutter.times_s[i] + float(lengths_s[i])),
            duration_text(float(lengths_s[i])),
        )
        for i in longest
    ]
    some = f", the {len(rows)} longest of them" if len(rows) < flutter.episodes else ""
    number = _number(flutter.episodes, "episode")
    title = (
        f"Ventricular flutter, as the annotator marked it: {number} of {duration_text(flutter.total_s)} together{some}"
    )
    return _table(title, ("from", "to", "length"), rows, class_="flutter")


def _time_text(contents: _Contents) -> Markup:
    time = contents.summary.time
    analysed = _share(_percent(time.analysed_s, time.duration_s))
    text = f"{duration_text(time.analysed_s)} of {duration_text(time.duration_s)} ({analysed}) were analysed"
    reasons = sorted(time.reasons.items(), key=lambda item: -item[1])
    excluded = ", ".join(f"{reason} {duration_text(seconds)}" for reason, seconds in reasons)
    return element("p", element("b", "Time. "), f"{text}; excluded: {excluded}." if excluded else f"{text}.")


class _Links:
    """Times as links to the strips that show them, where there is one."""

    def __init__(self, contents: _Contents) -> None:
        self._kinds = {moment.kind for strip in contents.strips for moment in strip.moments}
        self._contents = contents

    def __call__(self, kind: str, time_s: float | None) -> object:
        if time_s is None:
            return ""
        text = self._contents.clock(time_s) or time_text(time_s)
        return element("a", text, href=f"#{kind}") if kind in self._kinds else text

    def has(self, kind: str) -> bool:
        """Tell whether a strip shows this kind of moment."""
        return kind in self._kinds


def _links(contents: _Contents) -> _Links:
    return _Links(contents)


def _linked(at: _Links, kind: str, text: str) -> object:
    return element("a", text, href=f"#{kind}") if at.has(kind) else text


def _course(contents: _Contents) -> Markup:
    annotations = contents.annotations
    bin_s = bin_width_s(annotations.duration_s)
    parts: list[object] = [element("h2", "Course")]
    if annotations.duration_s > 2 * bin_s:
        caption = f"Heart rate {_per_bin(bin_s)}, mean (line) and lowest to highest local rate (band); burden of "
        keys = (element("span", class_="key V"), " ventricular and ", element("span", class_="key S"))
        text = joined(element("b", "Trend. "), caption, *keys, " supraventricular beats.")
        parts.append(_figure(trend_svg(annotations, trend(annotations, bin_s)), text))
    parts.append(_figure(tachogram_svg(annotations), _tachogram_caption(contents)))
    if annotations.duration_s > 2 * 3600:
        parts.append(_hours(contents))
    return element("section", *parts, id="course")


def _per_bin(bin_s: float) -> str:
    names = {10.0: "for each 10 s", 60.0: "by the minute", 3600.0: "by the hour", 86_400.0: "by the day"}
    return names.get(bin_s, f"for each {bin_s / 60:.0f} min" if bin_s < 3600 else f"for each {bin_s / 3600:.0f} h")


def _tachogram_caption(contents: _Contents) -> Markup:
    present = [letter for letter in CLASSES if contents.summary.counts[letter]]
    keys = [element("span", mark_svg(letter), f" {letter}", class_="mark") for letter in present]
    excluded = element("span", element("span", class_="key excluded"), " excluded", class_="mark")
    shown = joined(*keys, excluded if len(contents.annotations.noisy) else None)
    return joined(element("b", "RR intervals. "), "Each is drawn at the beat that ends it. ", shown)


def _hours(contents: _Contents) -> Markup:
    names = ("hour", "analysed", "beats", "mean", "lowest", "highest", "V", "S", "V and S")
    rows = [
        (
            contents.clock(3600.0 * hour.index) or f"{hour.index}:00 h",
            f"{hour.analysed_minutes:.0f} min",
            f"{hour.beats:,}",
            *(_rounded(rate) for rate in (hour.heart_rate_mean, hour.heart_rate_min, hour.heart_rate_max)),
            *(f"{hour.counts[letter]:,}" for letter in "VS"),
            _share(hour.ectopic_burden_percent),
        )
        for hour in _listed_hours(contents.summary.hours)
    ]
    return _table("By the hour (heart rate per min)", names, rows, class_="hours")


def _listed_hours(hours: Sequence[Hour]) -> Sequence[Hour]:
    return hours[: 24 * 14]


def _mean_beats(contents: _Contents) -> Markup | None:
    mean_beats, counts = contents.annotations.mean_beats, contents.summary.counts
    shown = [letter for i, letter in enumerate(CLASSES) if np.isfinite(mean_beats[i]).any()]
    if not shown:
        return None
    limits = mean_beat_limits(mean_beats)
    figures = [
        element(
            "figure",
            mean_beat_svg(mean_beats, letter, limits),
            element("figcaption", _class_name(letter), element("br"), _number(counts[letter], "beat")),
        )
        for letter in shown
    ]
    text = "Mean of all beats of a class, at 50 mm/s and 10 mm/mV; in grey the mean of class N."
    return element(
        "section",
        element("h2", "Average beats"),
        element("p", text),
        element("div", *figures, class_="means"),
        id="means",
    )


def _strips(contents: _Contents) -> Markup:
    text = (
        f"Lead {contents.annotations.lead} at 25 mm/s and 10 mm/mV, to scale when printed at 100 %. Above each strip "
        f"the class of every beat, with ? where it is uncertain (probability below {UNCERTAIN_BELOW:g}), and the RR "
        "intervals in ms."
    )
    figures = [_strip(contents, strip) for strip in contents.strips]
    return element("section", _opening("Strips", text, figures[0]), *figures[1:], id="strips")


def _opening(title: str, text: object, first: Markup) -> Markup:
    """Keep a section's heading on the page of what it is the heading of."""
    return element("div", element("h2", title), element("p", text), first, class_="whole")


def _strip(contents: _Contents, strip: ShownStrip) -> Markup:
    starts = [strip.start_s + row * strip.row_s for row in range(strip.rows)]
    rows = [contents.read(start_s, start_s + strip.row_s) for start_s in starts]
    whole = "Beginning of the recording" if strip.stop_s < contents.annotations.duration_s else "The recording"
    shown = "; ".join(f"{moment.title}: {moment.detail}" for moment in strip.moments) or whole
    drawing = strip_svg(contents.annotations, strip, rows, label=f"ECG from {time_text(strip.start_s)} on. {shown}")
    captions = [
        element(
            "p",
            element("b", moment.title),
            element("span", moment.detail, class_="detail"),
            element("span", _moment_time(contents, moment.start_s), class_="when"),
            id=moment.kind,
        )
        for moment in strip.moments
    ] or [element("p", element("b", whole))]
    last = strip.moments[0].stop_s if len(strip.moments) == 1 else 0.0
    if last > strip.stop_s:
        captions.append(element("p", "Its beginning is shown.", class_="cut"))
    return _figure(drawing, joined(*captions), class_="strip")


def _moment_time(contents: _Contents, time_s: float) -> str:
    clock = contents.clock(time_s)
    return f"{clock} ({time_text(time_s)})" if clock else time_text(time_s)


def _uncertain(contents: _Contents) -> Markup | None:
    annotations, number = contents.annotations, contents.summary.uncertain
    beats = choose_uncertain(annotations, MOST_UNCERTAIN)
    if not beats:
        return None
    some = f"{len(beats)} of {number:,}" if len(beats) < number else f"{'All ' if number > 1 else ''}{number:,}"
    text = f"{some} classified beats whose class has a probability below {UNCERTAIN_BELOW:g}"
    text += ": the least sure of each pair of classes in doubt." if len(beats) < number else "."
    text += " The window that the model sees is shaded."
    figures = [_uncertain_figure(contents, beat) for beat in beats]
    rows = [element("div", *figures[first : first + 3], class_="row") for first in range(0, len(figures), 3)]
    return element("section", _opening("Uncertain beats to review", text, rows[0]), *rows[1:], id="uncertain")


def _uncertain_figure(contents: _Contents, beat: UncertainBeat) -> Markup:
    half_s = min(UNCERTAIN_HALF_S, max(0.5, contents.annotations.duration_s))
    part = contents.read(beat.time_s - half_s, beat.time_s + half_s)
    clock = contents.clock(beat.time_s)
    probability = dict(zip(CLASSES, beat.probabilities, strict=True))
    others = sorted((letter for letter in CLASSES if letter != beat.letter), key=lambda letter: -probability[letter])
    shown = [letter for letter in others if probability[letter] >= 0.01 or letter == beat.runner_up]
    verdict = f"{beat.letter} {probability[beat.letter]:.2f}"
    doubts = " · ".join(f"{letter} {probability[letter]:.2f}" for letter in shown)
    label = f"Uncertain beat at {time_text(beat.time_s, 1)}: {verdict}, {doubts}"
    caption = joined(
        element("span", f"{clock or time_text(beat.time_s, 1)}", class_="when"),
        element("b", verdict, class_=f"letter {beat.letter}"),
        element("span", doubts, class_="detail"),
    )
    return _figure(uncertain_svg(contents.annotations, beat, part, half_s, label), caption, scroll=False)


def _excluded(contents: _Contents) -> Markup | None:
    annotations = contents.annotations
    stretches_s = annotations.noisy.reshape(-1, 2) / annotations.fs
    if not len(stretches_s):
        return None
    longest = np.argsort(stretches_s[:, 0] - stretches_s[:, 1], kind="stable")[:MOST_EXCLUDED]
    rows = [
        (
            _moment_time(contents, float(stretches_s[i, 0])),
            contents.clock(float(stretches_s[i, 1])) or time_text(float(stretches_s[i, 1])),
            duration_text(float(stretches_s[i, 1] - stretches_s[i, 0])),
            annotations.noisy_reasons[i],
        )
        for i in np.sort(longest).tolist()
    ]
    total = duration_text(annotations.noisy_s)
    text = f"{_number(len(stretches_s), 'stretch', 'stretches')} of {total} together that no beat was read from."
    if len(rows) < len(stretches_s):
        text += f" The {len(rows)} longest:"
    table = _table(None, ("from", "to", "length", "reason"), rows, class_="excluded")
    parts = (
        (_opening("Excluded stretches", text, table),)
        if len(rows) <= _SHORT_TABLE
        else (element("h2", "Excluded stretches"), element("p", text), table)
    )
    return element("section", *parts, id="excluded-stretches")


def _making(contents: _Contents) -> Markup:
    annotations, threshold_s = contents.annotations, contents.summary.pauses.threshold_s
    made = (
        ("Software", f"ecgkan {__version__}"),
        ("Model", MODEL_TITLES.get(annotations.model, annotations.model)),
        ("Weights (SHA-256)", element("code", annotations.weights_sha256) if annotations.weights_sha256 else _NONE),
    )
    meanings = "; ".join(f"{letter} {CLASS_MEANINGS[letter]}" for letter in CLASSES)
    definitions = (
        ("Classes", meanings),
        ("Burden", "beats of the class in percent of all classified beats; fusion beats count as neither V nor S"),
        ("Heart rate", "lowest and highest: 60 s by the median of 8 RR intervals in a row"),
        ("Run, couplet", "three or more, or two, beats of one ectopic class in a row, with nothing unread between"),
        ("Bigeminy, trigeminy", "at least three cycles of one or two N beats and an ectopic one"),
        ("Pause", f"an RR interval of {threshold_s:g} s or more between two beats with nothing unread between"),
        ("SDNN, RMSSD", "over intervals of 0.3 to 2 s between two N beats"),
        ("Uncertain", f"the class's calibrated probability is below {UNCERTAIN_BELOW:g}"),
    )
    lists = (
        element("dl", *(joined(element("dt", name), element("dd", value)) for name, value in some))
        for some in (made, definitions)
    )
    return element("section", element("h2", "How this was made"), *lists, id="making", class_="whole")


def _figure(drawing: Markup, caption: object, *, class_: str | None = None, scroll: bool = True) -> Markup:
    shown = element("div", drawing, class_="scroll", tabindex=0) if scroll else drawing
    return element("figure", element("figcaption", caption), shown, class_=class_)


def _table(title: str | None, names: Sequence[str], rows: Sequence[Sequence[object]], *, class_: str) -> Markup:
    """Lay out rows of a name and values; empty column names make no head."""
    head = element("thead", element("tr", *(element("th", name, scope="col") for name in names)))
    body = (
        element("tr", element("th", row[0], scope="row"), *(element("td", value) for value in row[1:])) for row in rows
    )
    caption = element("caption", title) if title else None
    return element(
        "div",
        element("table", caption, head if any(names) else None, element("tbody", *body)),
        class_=f"table {class_}",
    )


def _class_name(letter: str) -> Markup:
    return joined(element("b", letter, class_=f"letter {letter}"), f" {CLASS_NAMES[letter]}")


def _number(count: int, singular: str, plural: str | None = None) -> str:
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def _rounded(value: float | None) -> str:
    return _NONE if value is None else f"{value:.0f}"


def _per_minute(value: float | None) -> str:
    return _NONE if value is None else f"{value:.0f}/min"


def _milliseconds(value: float | None) -> str:
    return _NONE if value is None else f"{value:.0f} ms"


def _percent(part: float, whole: float) -> float | None:
    return 100 * part / whole if whole else None


def _share(percent: float | None) -> str:
    """Return percent with as many decimals as tell few from none and nearly all from all."""
    if percent is None:
        return _NONE
    if percent in (0.0, 100.0) or 10 <= percent < 99:
        return f"{percent:.0f} %"
    return f"{percent:.1f} %" if 0.05 <= percent <= 99.95 else f"{percent:.2f} %"
