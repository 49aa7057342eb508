"""Leads by name: which one is classified when nobody says, and which signals are no ECG at all."""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from ecgkan.errors import DataError

LIKE_MLII: Final = ("MLII", "II", "CM5", "CS5", "CC5", "CH5", "CR5", "MV5", "MCL5", "CM4", "CM6")
"""Leads that look most like the MLII that the shipped models were trained on, in the order they are looked for; then
a lead named ECG or EKG, then a numbered one (ECG1, lowest first), then `OTHER_LEADS`."""

OTHER_LEADS: Final = (
    "V5",
    "MLV5",
    "V4",
    "V6",
    "I",
    "MLI",
    "AVF",
    "AVL",
    "III",
    "MLIII",
    "V3",
    "V2",
    "V1",
    "MV1",
    "MCL1",
)
"""Leads that show the QRS complex in another shape; taken when none of the others is there."""

SECOND_LEADS: Final = (
    "V1",
    "MV1",
    "MCL1",
    "V2",
    "V5",
    "MLV5",
    "V4",
    "V3",
    "V6",
    "I",
    "MLI",
    "AVL",
    "AVF",
    "III",
    "MLIII",
)
"""Leads that show most beside one like MLII, in the order they are looked for as the second lead; then numbered ECG
leads, lowest first, then other leads named as ECG."""

_SPELLINGS: Final = {
    **dict.fromkeys(("ML2", "MII", "MODII", "MODIFIEDII"), "MLII"),
    **dict.fromkeys(("D2", "DII", "L2", "LII"), "II"),
    **dict.fromkeys(("D1", "DI", "L1", "LI"), "I"),
    **dict.fromkeys(("D3", "DIII", "L3", "LIII"), "III"),
    **dict.fromkeys(("ML1",), "MLI"),
    **dict.fromkeys(("ML3",), "MLIII"),
}

_ECG_WORDS: Final = frozenset({"ECG", "EKG", "ELECTROCARDIOGRAM"})
_FILLER_WORDS: Final = _ECG_WORDS | {
    "LEAD",
    "LEADS",
    "MDC",
    "ELEC",
    "POTL",
    "DERIVATION",
    "ABLEITUNG",
    "EINTHOVEN",
    "CHANNEL",
    "CH",
}

_NO_ECG_WORDS: Final = frozenset(
    "ABD ABDO ABDOMEN ABP ACC ACCEL ACCELEROMETER ACCX ACCY ACCZ ACTIVITY AIRFLOW ANNOTATION ANNOTATIONS "
    "AO ART AUX BATTERY BODY BP BPM CAP CO2 CRC CUFF CVP EDA EEG EMG EOG ERG ETCO2 EVENT EVENTS FLOW GSR "
    "GYR GYRO GYROX GYROY GYROZ HEARTRATE HR ICP IMP IMPEDANCE INDEX LABEL LABELS LIGHT MAG MARK MARKER "
    "MIC NASAL NBP NIBP OX OXSTAT PA PACE PAP PCG PLETH PLETHYSMOGRAM POS POSITION PPG PRESS PRESSURE "
    "PULSE QUALITY RATE RESP RESPIRATION RESPIRATORY SAO2 SEQ SKIN SNORE SOUND SPO2 STATUS STI SV TEMP "
    "TEMPERATURE THERM THOR THORAX TIME TIMESTAMP TRIGGER UA UNUSED".split()
)


class LeadChoice(NamedTuple):
    """The lead to classify.

    Attributes
    ----------
    index : int
        Column.
    name : str
        The lead's name.
    reason : str
        Why this one, in a few words for the report: `asked for`, `MLII by name`, `the only lead` ...
    """

    index: int  # type: ignore[assignment]  # tuples have a method of that name, which nobody needs here
    name: str
    reason: str


def is_other_signal(name: str) -> bool:
    """Whether a name is that of a signal that is no ECG: respiration, pressure, acceleration, annotations ...

    Examples
    --------
    >>> is_other_signal("Resp nasal"), is_other_signal("ECG resp lead"), is_other_signal("V5")
    (True, False, False)
    """
    words = _words(name)
    return not _says_ecg(words) and bool(_NO_ECG_WORDS & set(words))


def is_named_like_ecg(name: str) -> bool:
    """Whether a name is that of an ECG lead: MLII, `ECG 1`, `EKG lead II`, aVF ..."""
    return _rank(name) is not None


def choose_lead(recording: str, leads: Sequence[str], lead: str | int | None = None) -> LeadChoice:
    """Choose the lead to classify.

    Parameters
    ----------
    recording : str
        Name of the recording, for messages.
    leads : sequence of str
        The leads' names.
    lead : str or int, optional
        The lead asked for, by name (capitals do not matter) or number, counted from 0. By default the first found of
        `LIKE_MLII`, ECG or EKG, numbered ECG leads, `OTHER_LEADS`, and signals that are not known to be something else.

    Raises
    ------
    DataError
        If there is no such lead, or two have that name.

    Examples
    --------
    >>> choose_lead("x", ["RESP", "ECG 1", "ECG 2"])
    LeadChoice(index=1, name='ECG 1', reason='ECG 1 by name')
    """
    if lead is not None:
        index = _asked_for(recording, leads, lead)
        return LeadChoice(index, leads[index], "asked for")
    ranked = [(rank, i) for i, name in enumerate(leads) if (rank := _rank(name)) is not None]
    if ranked:
        index = min(ranked)[1]
        return LeadChoice(index, leads[index], f"{leads[index]} by name")
    if len(leads) == 1:
        return LeadChoice(0, leads[0], "the only lead")
    first = next((i for i, name in enumerate(leads) if not is_other_signal(name)), 0)
    return LeadChoice(first, leads[first], "first lead; none has the name of an ECG lead")


def choose_second_lead(
    recording: str, leads: Sequence[str], first: LeadChoice, second: str | int | None
) -> LeadChoice | None:
    """Choose the lead that is looked at beside the first one.

    Parameters
    ----------
    recording, leads
        See `choose_lead`.
    first : LeadChoice
        The lead that is classified.
    second : str, int or None
        The lead asked for; None for none; "auto" for another ECG lead by name, the first found of `SECOND_LEADS`, if
        there is one.

    Raises
    ------
    DataError
        If there is no such lead, or it is the first one.

    Examples
    --------
    >>> leads = ["ECG1", "ECG2"]
    >>> choose_second_lead("x", leads, choose_lead("x", leads), "auto")
    LeadChoice(index=1, name='ECG2', reason='ECG2 by name')
    """
    if second is None:
        return None
    if second != "auto":
        index = _asked_for(recording, leads, second)
        if index == first.index:
            raise DataError(
                f"recording {recording}: lead {first.name} is both the first and the second lead; ask for another one"
            )
        return LeadChoice(index, leads[index], "asked for")
    ranked = [(rank, i) for i, name in enumerate(leads) if i != first.index and (rank := _second_rank(name))]
    if not ranked:
        return None
    index = min(ranked)[1]
    return LeadChoice(index, leads[index], f"{leads[index]} by name")


def unique_leads(names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names with repeated ones numbered and empty ones filled in, and notes that say so.

    Examples
    --------
    >>> unique_leads(["II", "II", ""])[0]
    ('II', 'II (2)', 'signal 2')
    """
    unique: list[str] = []
    notes: list[str] = []
    taken = {name.strip().upper() for name in names}
    for i, name in enumerate(names):
        bare = name.strip() or f"signal {i}"
        count, new = 1, bare
        while new.upper() in {seen.upper() for seen in unique} or (new != bare and new.upper() in taken):
            count += 1
            new = f"{bare} ({count})"
        if count > 1:
            notes.append(f"more than one lead is named {bare}: lead number {i} is called {new!r}")
        unique.append(new)
    return tuple(unique), tuple(notes)


def _asked_for(recording: str, leads: Sequence[str], lead: str | int) -> int:
    if isinstance(lead, str):
        matches = [i for i, name in enumerate(leads) if name.strip().upper() == lead.strip().upper()]
        if len(matches) > 1:
            raise DataError(
                f"recording {recording}: {len(matches)} leads are named {lead!r}; ask for one by its number: "
                f"{', '.join(str(i) for i in matches)}"
            )
        if matches:
            return matches[0]
        if not re.fullmatch(r"\s*\d+\s*", lead):
            same = [i for i, name in enumerate(leads) if _bare_name(name) == _bare_name(lead)]
            if len(same) == 1:
                return same[0]
            raise DataError(f"recording {recording}: no lead {lead!r}; it has {', '.join(leads)}")
    number = int(lead)
    if not 0 <= number < len(leads):
        raise DataError(
            f"recording {recording}: no lead number {number}; it has {len(leads)}, numbered from 0: {', '.join(leads)}"
        )
    return number


def _rank(name: str) -> tuple[int, int] | None:
    """Place of a lead in the order of choice, or None for a name that is not known as an ECG lead's."""
    bare = _bare_name(name)
    if bare in LIKE_MLII:
        return 0, LIKE_MLII.index(bare)
    words = _words(name)
    if not is_other_signal(name) and _says_ecg(words) and not bare:
        return 1, 0
    number = re.fullmatch(r"(?:ECG|EKG)?(\d{1,2})", bare)
    if number and re.search(r"ECG|EKG", name, re.IGNORECASE):
        return 2, int(number[1])
    if bare in OTHER_LEADS:
        return 4, OTHER_LEADS.index(bare)
    return (3, 0) if _says_ecg(words) else None


def _second_rank(name: str) -> tuple[int, int] | None:
    """Place of a lead in the order of choice of the second lead, or None for a name that is not known as an ECG's."""
    rank, bare = _rank(name), _bare_name(name)
    if rank is None:
        return None
    return (-1, SECOND_LEADS.index(bare)) if bare in SECOND_LEADS else (rank if rank[0] else (5, rank[1]))


def _says_ecg(words: Sequence[str]) -> bool:
    return any(word.rstrip("0123456789") in _ECG_WORDS for word in words)


def _bare_name(name: str) -> str:
    """Return the name without `ECG`, `lead` and the like, in one spelling: `EKG lead II` and `DII` → `II`."""
    joined = "".join(word for word in _words(name) if word not in _FILLER_WORDS)
    joined = re.sub(r"^(?:ECG|EKG|LEAD)(?=[A-Z])", "", joined)
    return _SPELLINGS.get(joined, joined)


def _words(name: str) -> list[str]:
    return re.findall(r"[A-Z0-9]+", name.upper())
