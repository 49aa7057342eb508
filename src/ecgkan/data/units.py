"""Units of voltage, in the many ways files spell them, and what else a signal may be measured in."""

import re
from typing import Final

from ecgkan.errors import DataError

WFDB_DEFAULT_GAIN: Final = 200.0
"""adu per mV that the WFDB header format assumes where no gain is given."""

_MV_PER_UNIT: Final = {
    **dict.fromkeys(("mv", "millivolt", "millivolts", "milivolt", "milivolts"), 1.0),
    **dict.fromkeys(("uv", "µv", "μv", "mcv", "microvolt", "microvolts", "mikrovolt"), 1e-3),
    **dict.fromkeys(("nv", "nanovolt", "nanovolts"), 1e-6),
    **dict.fromkeys(("v", "volt", "volts"), 1e3),
}

_NOT_VOLTAGE: Final = frozenset(
    "mmhg kpa pa hpa cmh2o % pct percent bpm /min 1/min min-1 rpm hz c °c degc celsius f °f degf k g mg m/s2 m/s^2 "
    "m/s² rad/s deg/s dps deg ° l ml l/min lpm l/s ml/min ohm ohms ω kohm us µs s sec ms m cm mm lux lx db sao2 spo2 "
    "ut µt a ma ua events boolean".split()
)


def mv_per_unit(unit: str) -> float | None:
    """Return how many mV one of a unit is, or None where the unit is not known as a voltage.

    Examples
    --------
    >>> mv_per_unit("uV"), mv_per_unit("Volts"), mv_per_unit("mmHg")
    (0.001, 1000.0, None)
    """
    bare = unit.strip().strip("[](){}'\"").strip()
    if bare == "MV":  # capitals throughout: no ECG is given in megavolts
        return 1.0
    return _MV_PER_UNIT.get(bare.lower())


def measures_something_else(unit: str) -> bool:
    """Whether a unit is known and is not one of voltage: mmHg, %, bpm, g ..."""
    bare = unit.strip().strip("[](){}'\"").strip().lower()
    return bare in _NOT_VOLTAGE


def parse_units(units: str) -> float:
    """Return the mV that one of the asked-for units is: `mV`, `uV`, `V` or `adu:<n per mV>`.

    Raises
    ------
    DataError
        If it is none of these.

    Examples
    --------
    >>> parse_units("adu:200")
    0.005
    """
    match = re.fullmatch(r"\s*adu\s*:\s*([0-9.eE+-]+)\s*", units, re.IGNORECASE)
    try:
        per_mv = float(match[1]) if match else None
    except ValueError:
        per_mv = 0.0
    if per_mv is not None and not 0 < per_mv < float("inf"):
        raise DataError(f"units {units!r}: expected a positive number of adu per mV, such as adu:200")
    scale = 1 / per_mv if per_mv else mv_per_unit(units)
    if scale is None:
        raise DataError(f"units {units!r} are not known; expected mV, uV, V or adu:<n per mV>, such as adu:200")
    return scale


def unit_in_name(column: str) -> tuple[str, str | None]:
    """Split a column's name into the lead's name and the unit that it states, if it does.

    Examples
    --------
    >>> unit_in_name("ECG (mV)"), unit_in_name("MLII_uV"), unit_in_name("V5")
    (('ECG', 'mV'), ('MLII', 'uV'), ('V5', None))
    """
    name = column.strip().strip("'\"").strip()
    match = re.fullmatch(r"(.*?)\s*[\[({]\s*([^\[\](){}]*?)\s*[\])}]", name) or re.fullmatch(
        r"(.+?)(?:\s*/\s*|[_\s]+(?:in[_\s]+)?)([^\s_/]+)", name
    )
    if match and ((mv_per_unit(match[2]) is not None and match[2] != "V") or _in_brackets(name, match[2])):
        return match[1].strip() or name, match[2]
    return name, None


def _in_brackets(name: str, unit: str) -> bool:
    return name[-1] in "])}" and (
        mv_per_unit(unit) is not None or measures_something_else(unit) or unit.lower() in {"adu", "nu", "raw", "counts"}
    )
