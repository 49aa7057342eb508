"""The lead is chosen by name, in one order, and never a signal that is no ECG while one is there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgkan.data.leads import choose_lead, choose_second_lead, is_other_signal, unique_leads
from ecgkan.errors import DataError


@pytest.mark.parametrize(
    ("leads", "chosen", "reason"),
    [
        (["V5", "MLII"], "MLII", "MLII by name"),
        (["V5", "V2"], "V5", "V5 by name"),
        (["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2"], "II", "II by name"),
        (["ECG1", "ECG2"], "ECG1", "ECG1 by name"),
        (["ECG 2", "ECG 1"], "ECG 1", "ECG 1 by name"),
        (["V4", "MLIII"], "V4", "V4 by name"),
        (["ECG I", "ECG II", "ECG V2"], "ECG II", "ECG II by name"),
        (["Lead I", "Lead II"], "Lead II", "Lead II by name"),
        (["EKG"], "EKG", "EKG by name"),
        (["SpO2", "EKG2-EKG1"], "EKG2-EKG1", "EKG2-EKG1 by name"),
        (["ml2", "V1"], "ml2", "ml2 by name"),
        (["CM2", "CM5"], "CM5", "CM5 by name"),
        (["MV5", "ECG"], "MV5", "MV5 by name"),
        (["D2", "V1"], "D2", "D2 by name"),
        (["RESP", "PLETH", "ABP", "ECG"], "ECG", "ECG by name"),
        (["RESP", "II"], "II", "II by name"),
        (["Resp chest", "channel A"], "channel A", "first lead; none has the name of an ECG lead"),
        (["ACC_X", "ACC_Y", "signal"], "signal", "first lead; none has the name of an ECG lead"),
        (["EDF Annotations", "x"], "x", "first lead; none has the name of an ECG lead"),
        (["whatever"], "whatever", "the only lead"),
        (["EEG C3-A2", "EOG", "ECG"], "ECG", "ECG by name"),
    ],
)
def test_choice(leads: list[str], chosen: str, reason: str) -> None:
    choice = choose_lead("x", leads)
    assert (choice.name, choice.reason) == (chosen, reason)
    assert leads[choice.index] == chosen


@pytest.mark.parametrize(
    ("lead", "index"), [("v5", 0), ("mlii", 1), (1, 1), ("0", 0), ("2", 2), ("ML2", 1), ("Lead III", 2)]
)
def test_a_lead_is_asked_for_by_name_or_number(lead: str | int, index: int) -> None:
    assert choose_lead("x", ["V5", "MLII", "III"], lead) == (index, ["V5", "MLII", "III"][index], "asked for")


def test_a_name_goes_before_a_number() -> None:
    assert choose_lead("x", ["1", "0"], "0").index == 1


@pytest.mark.parametrize(
    ("leads", "lead", "message"),
    [
        (["V5", "MLII"], "aVR", "recording x: no lead 'aVR'; it has V5, MLII"),
        (["V5", "MLII"], 2, "no lead number 2; it has 2, numbered from 0: V5, MLII"),
        (["V5", "MLII"], -1, "no lead number -1"),
        (["II", "II"], "ii", "2 leads are named 'ii'; ask for one by its number: 0, 1"),
    ],
)
def test_leads_that_are_not_there(leads: list[str], lead: str | int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        choose_lead("x", leads, lead)


OTHERS = ["RESP", "PLETH", "ABP", "ACC X", "Acc_Y", "EDF Annotations", "SpO2", "EEG Fp1", "EMG", "Event", "HR", "Temp"]


@given(
    others=st.lists(st.sampled_from(OTHERS), max_size=5),
    place=st.integers(0, 5),
    ecg=st.sampled_from(["ECG", "II", "V1", "EKG 3", "CM5"]),
)
def test_an_ecg_lead_goes_before_every_other_signal(others: list[str], place: int, ecg: str) -> None:
    leads = [*others[:place], ecg, *others[place:]]
    assert choose_lead("x", leads).name == ecg
    assert all(map(is_other_signal, others))


@given(st.lists(st.sampled_from(["II", "ii", "V1", "", "II (2)", " II"]), max_size=8))
def test_repeated_names_are_numbered_and_said(names: list[str]) -> None:
    unique, notes = unique_leads(names)
    assert len({name.upper() for name in unique}) == len(names)
    assert all(new == name.strip() or f"lead number {i} is called {new!r}" in " ".join(notes) or not name.strip()
               for i, (name, new) in enumerate(zip(names, unique, strict=True)))  # fmt: skip


def test_the_first_of_a_name_keeps_it() -> None:
    assert unique_leads(["II", "V1", "II"]) == (
        ("II", "V1", "II (2)"), ("more than one lead is named II: lead number 2 is called 'II (2)'",)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("leads", "second"),
    [
        (["MLII", "V1"], "V1"),
        (["V5", "MLII"], "V5"),
        (["ECG1", "ECG2"], "ECG2"),
        (["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2"], "V1"),
        (["II", "III", "I"], "I"),
        (["MLII", "CM5"], "CM5"),
        (["MLII"], None),
        (["MLII", "RESP", "ABP"], None),
        (["MLII", "whatever"], None),
        (["RESP", "x"], None),
    ],
)
def test_the_second_lead_is_an_ecg_lead_by_name(leads: list[str], second: str | None) -> None:
    found = choose_second_lead("x", leads, choose_lead("x", leads), "auto")
    assert (found and found.name) == second
    assert found is None or leads[found.index] == second


def test_a_second_lead_is_asked_for_or_refused() -> None:
    leads = ["MLII", "V1", "RESP"]
    first = choose_lead("x", leads)
    assert choose_second_lead("x", leads, first, "resp") == (2, "RESP", "asked for")
    assert choose_second_lead("x", leads, first, None) is None
    assert choose_second_lead("x", leads, choose_lead("x", leads, "V1"), "auto") == (0, "MLII", "MLII by name")
    assert choose_second_lead("x", leads, choose_lead("x", leads, "V1"), "MLII") == (0, "MLII", "asked for")
    with pytest.raises(DataError, match="MLII is both the first and the second lead"):
        choose_second_lead("x", leads, first, 0)
    with pytest.raises(DataError, match="no lead 'V9'; it has MLII, V1, RESP"):
        choose_second_lead("x", leads, first, "V9")
