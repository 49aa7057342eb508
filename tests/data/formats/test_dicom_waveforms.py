"""DICOM waveforms: a real one beside pydicom's own decoding, and made ones with what that has not."""

import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import AmbulatoryECGWaveformStorage, ExplicitVRLittleEndian, generate_uid

from ecgkan.data.recording import open_recording, read_recording
from ecgkan.errors import DataError


@pytest.fixture(scope="module")
def real() -> Path:
    from pydicom.data import get_testdata_file

    return Path(str(get_testdata_file("waveform_ecg.dcm")))


def test_a_real_one_is_what_pydicom_decodes(real: Path) -> None:
    expected = pydicom.dcmread(real).waveform_array(0) / 1000  # in uV
    with open_recording(real) as recording:
        assert recording.fs == 1000.0
        assert recording.leads == ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
        assert recording.choose_lead() == (1, "II", "II by name")
        assert recording.started == datetime.datetime(2013, 1, 25, 10, 59, 19)
        assert recording.notes == ("of 2 multiplex groups RHYTHM is read; left out: MEDIAN BEAT",)
        np.testing.assert_allclose(recording.read(), expected, rtol=1e-12)
        np.testing.assert_allclose(recording.read(17, 4001, [11, 1]), expected[17:4001, [11, 1]], rtol=1e-12)


def made(path: Path, digital: NDArray[np.int16], *, fs: float | None = 250, **channel: object) -> Path:
    """Write an ambulatory ECG of one channel; `channel` changes its definition, None leaves a field out."""
    definition = Dataset()
    source = Dataset()
    source.CodeValue, source.CodingSchemeDesignator, source.CodeMeaning = "2:2", "MDC", "Lead II"
    unit = Dataset()
    unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = str(channel.pop("unit", "mV")), "UCUM", "unit"
    definition.ChannelSourceSequence = [source]
    definition.ChannelSensitivityUnitsSequence = [unit]
    values = {"ChannelSensitivity": "0.01", "ChannelSensitivityCorrectionFactor": "2", "ChannelBaseline": "0.5"}
    for name, value in (values | channel).items():
        if value is None:
            if name in definition:
                delattr(definition, name)
        else:
            setattr(definition, name, value)
    definition.WaveformBitsStored = 16
    group = Dataset()
    group.NumberOfWaveformChannels, group.NumberOfWaveformSamples = 1, len(digital)
    if fs is not None:
        group.SamplingFrequency = str(fs)
    group.ChannelDefinitionSequence = [definition]
    group.WaveformBitsAllocated, group.WaveformSampleInterpretation = 16, "SS"
    group.add_new(0x5400100A, "OW", np.int16(-32768).tobytes())  # Waveform Padding Value
    group.WaveformData = digital.astype("<i2").tobytes()
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = AmbulatoryECGWaveformStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = AmbulatoryECGWaveformStorage, meta.MediaStorageSOPInstanceUID
    dataset.WaveformSequence = [group]
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_sensitivity_correction_baseline_and_padding(tmp_path: Path) -> None:
    digital = np.array([0, 100, -32768, -100] * 50, dtype=np.int16)
    recording = read_recording(made(tmp_path / "IM1", digital))
    assert (recording.name, recording.leads, recording.fs) == ("IM1", ("II",), 250.0)
    np.testing.assert_allclose(recording.signals[:4, 0], [0.5, 2.5, np.nan, -1.5])
    assert recording.started is None


@pytest.mark.parametrize(("unit", "scale"), [("mV", 1.0), ("uV", 1e-3), ("V", 1e3)])
def test_units(unit: str, scale: float, tmp_path: Path) -> None:
    recording = read_recording(made(tmp_path / "x.dcm", np.full(100, 100, dtype=np.int16), unit=unit))
    np.testing.assert_allclose(recording.signals, 2.5 * scale)


def test_without_a_source_the_label_names_the_lead(tmp_path: Path) -> None:
    path = made(tmp_path / "x.dcm", np.zeros(100, np.int16), ChannelSourceSequence=None, ChannelLabel="CM5")
    assert read_recording(path).leads == ("CM5",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fs": None}, "sampling rate of 0 Hz"),
        ({"fs": 0}, "sampling rate of 0 Hz"),
        ({"fs": 50}, "50 Hz, expected 100"),
    ],
)
def test_rates_that_make_no_sense(changes: dict[str, float | None], message: str, tmp_path: Path) -> None:
    path = made(tmp_path / "x.dcm", np.zeros(100, np.int16), **changes)
    with pytest.raises(DataError, match=message):
        read_recording(path)


def test_files_without_waveform_and_cut_files(tmp_path: Path, real: Path) -> None:
    path = made(tmp_path / "x.dcm", np.zeros(100, np.int16))
    dataset = pydicom.dcmread(path)
    dataset.WaveformSequence[0].WaveformData = bytes(100)
    dataset.save_as(path)
    with pytest.raises(DataError, match=r"is too short: it holds 100 bytes of waveform, .* need 200"):
        read_recording(path)
    del dataset.WaveformSequence
    dataset.save_as(path)
    with pytest.raises(DataError, match=r"without a waveform \(Ambulatory ECG"):
        read_recording(path)
    (tmp_path / "cut.dcm").write_bytes(real.read_bytes()[:20000])
    with pytest.raises(DataError, match=r"cut\.dcm"):
        read_recording(tmp_path / "cut.dcm")
    (tmp_path / "text.dcm").write_text("no DICOM")
    with pytest.raises(DataError, match="cannot be read as a DICOM waveform"):
        read_recording(tmp_path / "text.dcm")
