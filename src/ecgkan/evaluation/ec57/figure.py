"""The matrix of labels as a figure."""

from typing import TYPE_CHECKING, Final

import numpy as np

from ecgkan.evaluation.ec57.beats import Proportion
from ecgkan.evaluation.ec57.summary import Comparison

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GREY: Final = "#767676"
_PALE: Final = "#BBBBBB"


def matrix_figure(comparison: Comparison) -> "Figure":
    """Draw which class each beat was given, with beats missed and made up; shaded by the share of the row.

    Nothing is shown, saved or kept globally.
    """
    from matplotlib.figure import Figure

    counts = comparison.counts
    matrix = np.zeros((6, 6), dtype=np.int64)
    matrix[:5, :5] = counts[:5, :5]
    matrix[:5, 5] = counts[:5, 5:].sum(axis=1)
    matrix[5, :5] = counts[5:, :5].sum(axis=0)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(5.6, 5.4), layout="constrained")
    axes = figure.add_subplot()
    # The square root lets the few percent off the diagonal be seen; extra beats are a share of nothing, so unshaded.
    shade = np.sqrt(share)
    shade[5] = np.nan
    axes.imshow(shade, cmap="Blues", vmin=0, vmax=1.15)
    for row, column in np.ndindex(6, 6):
        if (row, column) == (5, 5):
            continue
        count = int(matrix[row, column])
        colour = "white" if row < 5 and share[row, column] > 0.4 else "black" if count else _PALE
        axes.text(column, row - 0.08 * (row < 5), f"{count:,}", ha="center", va="center", color=colour, fontsize=9)
        if count and row < 5:
            percent = f"{100 * share[row, column]:.{2 if share[row, column] < 0.001 else 1}f} %"
            axes.text(column, row + 0.24, percent, ha="center", va="center", color=colour, fontsize=6.5)
    totals = matrix.sum(axis=1)
    axes.set_xticks(range(6), [*"NSVFQ", "missed"])
    axes.set_yticks(
        range(6), [*(f"{c}\nn = {n:,}" for c, n in zip("NSVFQ", totals, strict=False)), f"extra\nn = {totals[5]:,}"]
    )
    axes.set_xlabel(f"test: {_short(comparison.test)}")
    axes.set_ylabel(f"reference: {_short(comparison.reference)}")
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)
    for place in (4.5,):
        axes.axhline(place, color=_GREY, linewidth=0.8)
        axes.axvline(place, color=_GREY, linewidth=0.8)
    gross = comparison.gross()
    qrs, veb, sveb = (
        f"{name} Se {_percent(se)}, +P {_percent(p)}"
        for name, se, p in (
            ("QRS", gross.qrs_se, gross.qrs_p),
            ("VEB", gross.veb_se, gross.veb_p),
            ("SVEB", gross.sveb_se, gross.sveb_p),
        )
    )
    axes.set_title(f"Gross over {len(comparison.records)} records: {qrs}\n{veb}; {sveb}", fontsize=9)
    return figure


def _percent(proportion: Proportion) -> str:
    return f"{proportion.percent:.2f} %" if proportion.whole else "–"


def _short(annotator: str) -> str:
    return annotator.rpartition("/")[2]
