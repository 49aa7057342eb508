"""Text and tables of what `ecgkan.studies.by_record` measured, for the results page and the model cards."""

from typing import Any, Final

from ecgkan.aami import CLASSES
from ecgkan.data.mitdb import PACED_RECORDS
from ecgkan.evaluation.evaluate import MODEL_TITLES
from ecgkan.evaluation.tables import markdown_table
from ecgkan.studies.by_record import RECORD_SETS, TRAINING_PATIENTS
from ecgkan.studies.patients_page import ec57_table

Figures = dict[str, Any]

COMMAND: Final = "`ecgkan compare --by-record`"

NOT_MEASURED: Final = f"Not measured yet for the shipped weights: {COMMAND}."

WORST: Final = 6
"""Records that are named, at most."""

_WHAT: Final = (
    "our detector finds the beats, the lead is chosen by name (in record 114 MLII, where training took V5), noisy "
    "stretches are marked and left out, as `ecgkan classify` does it; then ANSI/AAMI EC57's beat-by-beat comparison as "
    "WFDB's `bxb` and `sumstats` do it (from 5:00, window 0.15 s; {ec57})"
)
_SEEN: Final = (
    f"**{TRAINING_PATIENTS.capitalize()}:** training took 70 % of the database's beats, of every patient; these "
    "figures say what a user gets of patients the model knows, nothing of new ones"
)


def card_ec57(figures: Figures | None) -> str:
    """Return a card's section on the records behind the detector; of a model that was not measured, a line."""
    if figures is None:
        return f"## Behind our own detector, by EC57\n\n{NOT_MEASURED}"
    columns = {f"{TRAINING_PATIENTS}, {name}": figures["ec57"][name] for name in RECORD_SETS}
    what = _WHAT.format(ec57="docs/ec57.md")
    return (
        f"## Behind our own detector, by EC57: {TRAINING_PATIENTS}\n\n{_SEEN} (for those: "
        f"[patient_mlp](patient_mlp.md), [patient_kan](patient_kan.md)). How: {what}. Command: {COMMAND}.\n\n"
        + ec57_table(columns, average=True)
        + f"\n\n{_paced(figures['ec57_by_record'])}"
    )


def card_failures(figures: Figures | None) -> str:
    """Return a card's section on the records that hold the errors; of a model that was not measured, a line."""
    if figures is None:
        return f"## Where it fails, by record\n\n{NOT_MEASURED}"
    test = "\n".join(_test_failures(figures["test_confusion_by_record"]))
    behind = "\n".join(_ec57_failures(figures["ec57_by_record"]))
    return (
        f"## Where it fails, by record\n\nThe records with most errors; their patients are **{TRAINING_PATIENTS}**. "
        f"Missed: of the reference's beats. Wrongly called: of the beats called so. Command: {COMMAND}.\n\nTest beats, "
        f"reference R peaks:\n\n{test}\n\nBehind our own detector, all 48 records by EC57 (F and Q called V or S are "
        f"no errors there):\n\n{behind}"
    )


def _paced(counts: dict[str, dict[str, list[int]]]) -> str:
    """Say what becomes of paced records, whose beats the detector never saw: the gross figures would hide it."""
    left_out = {record: counts[record]["left_out"] for record in PACED_RECORDS}
    part, whole = (sum(count[i] for count in left_out.values()) for i in (0, 1))
    named = ", ".join(f"{record} ({count[0]:,} of {count[1]:,})" for record, count in left_out.items())
    return (
        f"**Paced records:** {part:,} of the {whole:,} beats found in them are left out as unreadable, so that they "
        f"count as missed: {named}."
    )


def _test_failures(matrices: dict[str, list[list[int]]]) -> list[str]:
    def of_class(index: int) -> dict[str, tuple[int, int]]:
        return {record: (sum(m[index]) - m[index][index], sum(m[index])) for record, m in matrices.items()}

    def called(index: int) -> dict[str, tuple[int, int]]:
        return {
            record: (sum(row[index] for row in m) - m[index][index], sum(row[index] for row in m))
            for record, m in matrices.items()
        }

    every = {
        record: (sum(map(sum, m)) - sum(m[i][i] for i in range(len(CLASSES))), sum(map(sum, m)))
        for record, m in matrices.items()
    }
    lines = [_line("any error", every)]
    for letter in CLASSES[1:]:
        index = CLASSES.index(letter)
        lines += [_line(f"{letter} missed", of_class(index)), _line(f"wrongly called {letter}", called(index))]
    return lines


def _ec57_failures(counts: dict[str, dict[str, list[int]]]) -> list[str]:
    names = {
        "beats missed, or left out": "qrs_se",
        "found where there is none": "qrs_p",
        "V missed": "veb_se",
        "wrongly called V": "veb_p",
        "S missed": "sveb_se",
        "wrongly called S": "sveb_p",
    }
    left_out = {record: (found["left_out"][0], found["left_out"][1]) for record, found in counts.items()}
    return [
        _line("beats found but left out as unreadable, from 0:00", left_out),
        *(
            _line(what, {record: (found[name][1] - found[name][0], found[name][1]) for record, found in counts.items()})
            for what, name in names.items()
        ),
    ]


def _line(what: str, counts: dict[str, tuple[int, int]]) -> str:
    """Name the records with most errors: record → errors, of how many."""
    errors, beats = (sum(count[part] for count in counts.values()) for part in (0, 1))
    worst = sorted(counts, key=lambda record: -counts[record][0])[:WORST]
    named = ", ".join(
        f"{record} ({counts[record][0]:,} of {counts[record][1]:,})" for record in worst if counts[record][0]
    )
    return f"- {what}, {errors:,} of {beats:,}: {named or 'none'}"


def ec57_section(measured: dict[str, Figures]) -> str:
    """Return the results page's section on the records behind the detector."""
    if not measured:
        return f"## Behind our own detector, by EC57\n\n{NOT_MEASURED}"
    tables = [
        f"{TRAINING_PATIENTS.capitalize()}, {name}:\n\n"
        + ec57_table({MODEL_TITLES[model]: figures["ec57"][name] for model, figures in measured.items()}, average=True)
        for name in RECORD_SETS
    ]
    what = _WHAT.format(ec57="[ec57.md](ec57.md)")
    return "\n\n".join(
        [
            f"## Behind our own detector, by EC57: {TRAINING_PATIENTS}",
            f"{_SEEN} (for those: [new-patients.md](new-patients.md)). Shipped weights. How: {what}. Command: "
            f"{COMMAND}.",
            *tables,
            _paced(next(iter(measured.values()))["ec57_by_record"]),
        ]
    )


def records_section(measured: dict[str, Figures]) -> str:
    """Return the results page's table of records."""
    if not measured:
        return f"## By record\n\n{NOT_MEASURED}"
    header = ["record"]
    for model in measured:
        header += [f"{MODEL_TITLES[model]} {what}" for what in ("test errors", "VEB", "SVEB")]
    rows = []
    for record in next(iter(measured.values()))["ec57_by_record"]:
        row = [record]
        for figures in measured.values():
            matrix = figures["test_confusion_by_record"].get(record, [])
            counts = figures["ec57_by_record"][record]
            errors = sum(map(sum, matrix)) - sum(matrix[i][i] for i in range(len(matrix)))
            row += [f"{errors} / {sum(map(sum, matrix))}", _found(counts, "veb"), _found(counts, "sveb")]
        rows.append(row)
    return (
        f"## By record: {TRAINING_PATIENTS}\n\nShipped weights. Test errors: test beats called another class / test "
        "beats, reference R peaks. VEB and SVEB: behind our own detector by EC57, beats found / reference beats, + "
        f"beats wrongly called so (F and Q called so are no errors there). Command: {COMMAND}.\n\n"
        + markdown_table(header, rows)
    )


def _found(counts: dict[str, list[int]], kind: str) -> str:
    (found, reference), (right, called) = counts[f"{kind}_se"], counts[f"{kind}_p"]
    return f"{found} / {reference} + {called - right}" if reference or called else "–"
