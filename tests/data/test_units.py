"""Units of voltage in their spellings, and what is none."""

import pytest

from ecgkan.data.units import measures_something_else, mv_per_unit, parse_units, unit_in_name
from ecgkan.errors import DataError


@pytest.mark.parametrize(
    ("unit", "mv"),
    [
        ("mV", 1.0), ("MV", 1.0), ("mv", 1.0), ("[mV]", 1.0), ("millivolts", 1.0), ("uV", 1e-3), ("µV", 1e-3),
        ("μV", 1e-3), ("UV", 1e-3), ("microvolt", 1e-3), ("nV", 1e-6), ("V", 1e3), ("Volt", 1e3), ("mmHg", None),
        ("", None), ("adu", None),
    ],
)  # fmt: skip
def test_voltages(unit: str, mv: float | None) -> None:
    assert mv_per_unit(unit) == mv


@pytest.mark.parametrize(("unit", "other"), [("mmHg", True), ("%", True), ("bpm", True), ("mV", False), ("", False)])
def test_other_units(unit: str, other: bool) -> None:
    assert measures_something_else(unit) is other


@pytest.mark.parametrize(
    ("units", "mv"), [("mV", 1.0), ("uV", 1e-3), ("V", 1e3), ("adu:200", 0.005), ("ADU: 1e3", 1e-3)]
)
def test_units_asked_for(units: str, mv: float) -> None:
    assert parse_units(units) == mv


@pytest.mark.parametrize("units", ["adu", "adu:", "adu:0", "adu:-5", "adu:nan", "adu:1-2", "mmHg", ""])
def test_units_that_are_none(units: str) -> None:
    with pytest.raises(DataError, match="expected"):
        parse_units(units)


@pytest.mark.parametrize(
    ("column", "name", "unit"),
    [
        ("ECG (mV)", "ECG", "mV"), ("ECG [uV]", "ECG", "uV"), ("MLII_uV", "MLII", "uV"), ("ecg/mV", "ecg", "mV"),
        ("'MLII'", "MLII", None), ("V5", "V5", None), ("lead_V", "lead_V", None), ("ecg_1", "ecg_1", None),
        ("lead II in mV", "lead II", "mV"), ("ABP (mmHg)", "ABP", "mmHg"), ("ECG (raw)", "ECG", "raw"),
        ("Lead I (Einthoven)", "Lead I (Einthoven)", None), ("ECG (V)", "ECG", "V"),
    ],
)  # fmt: skip
def test_units_in_names(column: str, name: str, unit: str | None) -> None:
    assert unit_in_name(column) == (name, unit)
