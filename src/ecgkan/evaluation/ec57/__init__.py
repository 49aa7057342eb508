"""Beat-by-beat and run-by-run comparison of two annotators, as ANSI/AAMI EC57 and WFDB's programs do it.

`compare_beats` gives the counts of `bxb`, `compare_runs` those of `rxr`, `compare_folders` both for many records with
the gross and average figures of `sumstats`, `tool_lines` the very rows that these programs print. See docs/ec57.md.
"""

from ecgkan.evaluation.ec57.beats import BeatComparison, BeatFigures, Proportion, beat_figures, compare_beats
from ecgkan.evaluation.ec57.detections import (
    Detection,
    compare_detections,
    compared_beats,
    flutter_episodes,
    total,
)
from ecgkan.evaluation.ec57.folders import AnnotatorFiles, compare_folders
from ecgkan.evaluation.ec57.labels import LABELS, ClassTable
from ecgkan.evaluation.ec57.lines import LINE_FORMATS, LineFormat, tool_lines
from ecgkan.evaluation.ec57.matching import (
    END_OF_EITHER,
    END_OF_REFERENCE,
    LEARNING_S,
    MATCH_WINDOW_S,
    MatchedBeats,
    match_beats,
)
from ecgkan.evaluation.ec57.runs import RunComparison, RunFigures, RunKind, compare_runs, run_figures
from ecgkan.evaluation.ec57.summary import DEFINITIONS, Averages, Comparison, RecordComparison

__all__ = [
    "DEFINITIONS",
    "END_OF_EITHER",
    "END_OF_REFERENCE",
    "LABELS",
    "LEARNING_S",
    "LINE_FORMATS",
    "MATCH_WINDOW_S",
    "AnnotatorFiles",
    "Averages",
    "BeatComparison",
    "BeatFigures",
    "ClassTable",
    "Comparison",
    "Detection",
    "LineFormat",
    "MatchedBeats",
    "Proportion",
    "RecordComparison",
    "RunComparison",
    "RunFigures",
    "RunKind",
    "beat_figures",
    "compare_beats",
    "compare_detections",
    "compare_folders",
    "compare_runs",
    "compared_beats",
    "flutter_episodes",
    "match_beats",
    "run_figures",
    "tool_lines",
    "total",
]
