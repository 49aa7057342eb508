"""Strips as PNG files: one for each kind of event, and some beats to review, on ECG paper."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from ecgkan.data.beats import AFTER, BEAT_FS, BEFORE
from ecgkan.inference.annotation import BeatAnnotations, output_stem
from ecgkan.inference.figures import Strip, strip_figure, write_figure
from ecgkan.inference.markup import readable
from ecgkan.inference.moments import ROW_S, ShownStrip, choose_strips, choose_uncertain, read_lead, time_text
from ecgkan.inference.writing import refuse_existing

if TYPE_CHECKING:
    from ecgkan.data.recording import SignalSource

MOST_UNCERTAIN: Final = 6
"""Uncertain beats that get a file of their own."""

_MOST_KINDS: Final = 3
"""Kinds of event in the name of a strip that shows several."""


class _Picture(NamedTuple):
    """A file to write: its name, what it shows, and where that lies."""

    name: str
    title: str
    strip: Strip
    window_s: tuple[float, float] | None = None


def write_strips(
    folder: str | Path,
    annotations: BeatAnnotations,
    source: "SignalSource",
    *,
    lead_index: int,
    most_uncertain: int = MOST_UNCERTAIN,
    overwrite: bool = False,
) -> list[Path]:
    """Write a PNG file for each strip that the report shows, and for some uncertain beats, at 25 mm/s and 10 mm/mV.

    Parameters
    ----------
    folder : path
        Folder to write to; made if need be.
    annotations : BeatAnnotations
        The classified beats.
    source : Recording or RecordingFile
        The recording they are of; only the seconds that are drawn are read.
    lead_index : int
        Column of the lead that was classified.
    most_uncertain : int
        Uncertain beats to draw beside the events.
    overwrite : bool
        Replace what is there.

    Returns
    -------
    list of Path
        The files, `<stem>_<time>_<event>.png`, such as `208_0h15m03s_longest-ventricular-run.png`.

    Raises
    ------
    OutputExistsError
        If one of the files exists and `overwrite` is False; nothing is written then.
    EcgkanError
        If the folder cannot be written to.
    """
    pictures = {Path(folder) / picture.name: picture for picture in _pictures(annotations, most_uncertain)}
    refuse_existing(pictures, overwrite=overwrite)
    for path, picture in pictures.items():
        strip = picture.strip
        stop_s = strip.start_s + strip.rows * strip.row_s
        first, values = read_lead(source, lead_index, strip.start_s, stop_s)
        figure = strip_figure(
            values,
            [annotations],
            strip,
            title=readable(picture.title),
            first_sample=first,
            window_s=picture.window_s,
        )
        write_figure(figure, path, overwrite=overwrite)
    return list(pictures)


def _pictures(annotations: BeatAnnotations, most_uncertain: int) -> Iterator[_Picture]:
    heading = f"{annotations.record}, lead {annotations.lead}"
    for shown in choose_strips(annotations):
        first = shown.moments[0] if shown.moments else None
        about = f"{first.title}: {first.detail.partition(';')[0]}" if first else "the recording"
        title = f"{heading} · {time_text(shown.start_s)} · {about}"
        yield _Picture(_name(annotations, shown.start_s, _kinds(annotations, shown)), title, _strip(shown))
    for beat in choose_uncertain(annotations, most_uncertain):
        next_likely, likeliest = sorted(beat.probabilities)[-2:]
        title = f"{heading} · uncertain beat at {time_text(beat.time_s, 1)}: "
        title += f"{beat.letter} {likeliest:.2f}, {beat.runner_up} {next_likely:.2f}"
        start_s = max(0.0, min(round(beat.time_s - ROW_S / 2), annotations.duration_s - ROW_S))
        kind = f"uncertain-{beat.letter}-or-{beat.runner_up}-{beat.beat}".lower()
        yield _Picture(_name(annotations, beat.time_s, kind), title, Strip(start_s, ROW_S, 1), _window_s(beat.time_s))


def _window_s(time_s: float) -> tuple[float, float]:
    """Return what the model sees of a beat."""
    return time_s - BEFORE / BEAT_FS, time_s + AFTER / BEAT_FS


def _strip(shown: ShownStrip) -> Strip:
    return Strip(shown.start_s, shown.row_s, shown.rows)


def _kinds(annotations: BeatAnnotations, shown: ShownStrip) -> str:
    if shown.stop_s >= annotations.duration_s and shown.start_s == 0.0:
        return "recording"
    return "+".join(moment.kind for moment in shown.moments[:_MOST_KINDS]) or "beginning"


def _name(annotations: BeatAnnotations, time_s: float, kind: str) -> str:
    hours, minutes, seconds = time_text(time_s).split(":")
    return f"{output_stem(annotations.record)}_{hours}h{minutes}m{seconds}s_{kind}.png"
