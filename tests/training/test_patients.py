"""Training for new patients: recipes, made-up rhythms, batches, resuming, calibration."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax

from ecgkan.data.context import RHYTHM_FEATURES, SHAPE_BEFORE, SHAPE_WIDTH, average_beats, neighbour_features
from ecgkan.data.context import rhythm_features as describe_rhythm
from ecgkan.data.context_table import ContextTable
from ecgkan.errors import DataError, DataNotFoundError, OutputExistsError
from ecgkan.models.checkpoint import load_checkpoint
from ecgkan.training import patient_runs
from ecgkan.training.calibration import Calibration, fit_calibration
from ecgkan.training.patient_batches import PatientBatches, change_atria, draw_beats, make_up_beats
from ecgkan.training.patient_recipe import PatientRecipe, load_patient_recipe
from ecgkan.training.patient_runs import read_calibration, train_patient_run
from ecgkan.training.patients import predict_context, train_patient_model
from ecgkan.training.rhythms import KINDS, RR_RANGE_S, N, S, V, make_rhythm

TINY = PatientRecipe(name="tiny", epochs=2, batch_size=32, beats_per_record=(60, 20, 20, 5, 5), rhythms_per_record=2)


def a_table(*, n: int = 220, seed: int = 0) -> ContextTable:
    """Two records: narrow beats, early narrow ones (S), early wide ones (V)."""
    rng = np.random.default_rng(seed)
    places = np.arange(SHAPE_WIDTH) - SHAPE_BEFORE
    parts = []
    for record in ("101", "106"):
        labels = np.full(n, N)
        labels[150::9], labels[153::9] = S, V
        rr = np.where(labels == N, 0.8, 0.5) * np.exp(rng.normal(0, 0.02, n))
        rr[0] = np.nan
        width = np.where(labels == V, 7.0, 2.5)[:, None]
        shapes = (np.exp(-0.5 * (places / width) ** 2) + rng.normal(0, 0.02, (n, SHAPE_WIDTH))).astype(np.float32)
        averages = average_beats(shapes, rr)
        rhythm = np.concatenate([describe_rhythm(rr), neighbour_features(shapes, averages)], axis=1)
        both = [np.stack([column, column], axis=1) for column in (shapes, averages, rhythm)]
        parts.append((*both, labels, np.full(n, record), np.ones(n, bool)))
    return ContextTable(*(np.concatenate(column) for column in zip(*parts, strict=True)))


NOISE = torch.from_numpy(np.random.default_rng(9).normal(size=(50, SHAPE_WIDTH)).astype(np.float32))


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("seed", range(4))
def test_rhythms_are_plausible(kind: str, seed: int) -> None:
    rr_s, labels = KINDS[kind][0](300, np.random.default_rng(seed))
    rr_s, labels = rr_s[:300], labels[:300]
    assert len(rr_s) == len(labels) == 300 and np.isfinite(rr_s).all()
    expected = {"atrial premature": {N, S}, "atrial runs": {N, S}, "ventricular premature": {N, V}}.get(kind, {N})
    assert set(labels) <= expected
    if kind.startswith("atrial") and (labels == S).any():
        assert np.median(rr_s[labels == S]) < np.median(rr_s[labels == N])


def test_fibrillation_is_irregular_and_sinus_is_not() -> None:
    def irregularity(kind: str) -> float:
        rhythms = [KINDS[kind][0](300, np.random.default_rng(seed))[0] for seed in range(8)]
        return float(np.median([np.median(np.abs(np.diff(np.log(rr)))) for rr in rhythms]))

    assert irregularity("fibrillation") > 3 * irregularity("sinus")


def test_a_rhythm_is_its_generators_alone() -> None:
    a, b = (make_rhythm(100, np.random.default_rng(3)) for _ in range(2))
    assert a.kind == b.kind and np.array_equal(a.rr_s, b.rr_s)
    assert a.rr_s.min() >= RR_RANGE_S[0] and a.rr_s.max() <= RR_RANGE_S[1]


def test_made_up_beats_borrow_fitting_shapes() -> None:
    table = a_table()
    made_up = make_up_beats(table, np.random.default_rng(1), per_record=12)
    assert set(made_up.labels) == {N, S, V}
    assert set(table.labels[made_up.source[made_up.labels == V]]) == {V}
    assert set(table.labels[made_up.source[made_up.labels != V]]) == {N}
    early = made_up.rhythm[made_up.labels == S, 0, RHYTHM_FEATURES.index("rr/upper40")]
    assert np.median(early) < np.log(0.9)


def test_fibrillation_has_no_p_wave() -> None:
    places = torch.arange(SHAPE_WIDTH) - SHAPE_BEFORE
    shape = torch.exp(-0.5 * (places / 2) ** 2) + 0.3 * torch.exp(-0.5 * ((places + 17) / 3) ** 2)
    made_up = make_up_beats(a_table(), np.random.default_rng(1), per_record=8)
    fibrillating = np.flatnonzero(made_up.kind == list(KINDS).index("fibrillation"))[:50]
    assert len(fibrillating) == 50
    before = torch.stack([shape, shape]).expand(50, 2, SHAPE_WIDTH)
    after = change_atria(before, made_up.at(fibrillating), np.random.default_rng(0))
    assert after[:, 1, SHAPE_BEFORE - 17].max() < 0.15  # of 0.3
    torch.testing.assert_close(after[:, 1, SHAPE_BEFORE:], before[:, 1, SHAPE_BEFORE:], atol=0.01, rtol=0)


def test_epochs_draw_evenly_over_records() -> None:
    table = a_table()
    drawn = draw_beats(table, TINY, np.random.default_rng(0))
    counts = {
        (r, c): int(((table.records[drawn] == r) & (table.labels[drawn] == c)).sum())
        for r in ("101", "106")
        for c in (N, S, V)
    }
    assert counts == {(r, c): n for r in ("101", "106") for c, n in ((N, 60), (S, 20), (V, 20))}


def test_batches() -> None:
    table = a_table()
    made_up = make_up_beats(table, np.random.default_rng(0), per_record=2)
    batches = list(PatientBatches(table, made_up, NOISE, TINY, np.random.default_rng(5)))
    assert len(batches) == 200 // TINY.real_per_batch
    shapes, rhythm, labels = batches[0]
    assert shapes.shape == (32, 2, SHAPE_WIDTH) and rhythm.shape == (32, 31) and labels.shape == (32,)
    assert shapes.isfinite().all() and rhythm.isfinite().all()
    again = next(iter(PatientBatches(table, made_up, NOISE, TINY, np.random.default_rng(5))))
    assert torch.equal(again[0], shapes)


@pytest.mark.parametrize("name", ["patient_mlp", "patient_kan"])
def test_an_interrupted_training_ends_as_an_uninterrupted_one(name: str, tmp_path: Path) -> None:
    table = a_table()
    whole = train_patient_model(name, TINY, 3, table, NOISE)

    class Stopped(Exception):
        pass

    def stop(epoch: int, loss: float) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        train_patient_model(name, TINY, 3, table, NOISE, state=tmp_path / "last.ckpt", report=stop)
    resumed = train_patient_model(name, TINY, 3, table, NOISE, state=tmp_path / "last.ckpt")
    for expected, found in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(expected, found)
    with pytest.raises(DataError, match="has seed 3, expected 4"):
        train_patient_model(name, TINY, 4, table, NOISE, state=tmp_path / "last.ckpt")


def test_training_learns() -> None:
    table = a_table()
    model = train_patient_model("patient_mlp", replace(TINY, epochs=20, made_up_share=0.0), 0, table, NOISE)
    predicted = predict_context(model, table).argmax(axis=1)
    assert (predicted == table.labels).mean() > 0.9


def test_unknown_model() -> None:
    with pytest.raises(DataError, match="expected one of patient_mlp, patient_kan"):
        train_patient_model("cnn_kan", TINY, 0, a_table(), NOISE)


def test_calibration_takes_a_shift_and_a_temperature_back() -> None:
    rng = np.random.default_rng(0)
    true_logits = rng.normal(0, 2, (20000, 5)) + np.array([3.0, 0, 0, -1, -1])
    labels = (softmax(true_logits, axis=1).cumsum(axis=1) > rng.random((20000, 1))).argmax(axis=1)
    found = fit_calibration(true_logits * 1.7 + np.array([0, 1.0, -0.5, 2.0, 0.3]), labels)
    assert found.temperature == pytest.approx(1.7, rel=0.05)
    np.testing.assert_allclose(found.class_shift, [0, -1.0, 0.5, -2.0, -0.3], atol=0.25)


def test_recipes_are_checked(tmp_path: Path) -> None:
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(TINY.to_dict()))
    assert load_patient_recipe(file) == TINY
    with pytest.raises(DataError, match="made_up_share = 2, expected in"):
        replace(TINY, made_up_share=2)
    for content, message in (
        ("{", "not valid JSON"),
        (json.dumps({"name": "x", "epoch": 1}), "unknown recipe fields"),
        ("[]", "unknown recipe fields list"),
        (json.dumps({"name": "x"}), "epochs"),
    ):
        file.write_text(content)
        with pytest.raises(DataError, match=message):
            load_patient_recipe(file)
    with pytest.raises(DataNotFoundError, match="no recipe"):
        load_patient_recipe(tmp_path / "none.json")


def test_a_run_leaves_a_calibrated_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patient_runs, "load_training_context", lambda _: a_table())
    monkeypatch.setattr(patient_runs, "load_noise", lambda _: NOISE)
    recipe = tmp_path / "tiny.json"
    recipe.write_text(json.dumps(TINY.to_dict()))
    assert read_calibration(recipe, "patient_kan") is None
    calibration = {"temperature": 1.5, "class_shift": [0, -1.0, 0, -2.0, -3.0]}
    (tmp_path / "tiny-patient_kan-validation.json").write_text(
        json.dumps({"calibration": calibration, "recipe": TINY.to_dict()})
    )
    trained = train_patient_run("patient_kan", recipe, 2, tmp_path / "run")
    assert trained.calibration == Calibration(1.5, (0.0, -1.0, 0.0, -2.0, -3.0))
    checkpoint = load_checkpoint(trained.checkpoint)
    assert (checkpoint.name, checkpoint.protocol, checkpoint.temperature) == ("patient_kan", "inter-patient", 1.5)
    assert checkpoint.model.class_shift.tolist() == [0, -1, 0, -2, -3]
    assert checkpoint.training["seed"] == 2 and len(checkpoint.training["history"]) == 2
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == [
        "last.ckpt",
        "patient_kan.pth",
        "recipe.json",
        "run.json",
    ]
    recipe.write_text(json.dumps(TINY.to_dict() | {"epochs": 3}))
    with pytest.raises(DataError, match="fitted for another recipe"):
        read_calibration(recipe, "patient_kan")
    recipe.write_text(json.dumps(TINY.to_dict()))
    with pytest.raises(OutputExistsError, match="--resume"):
        train_patient_run("patient_kan", recipe, 2, tmp_path / "run")
    with pytest.raises(DataError, match="has seed 2, expected 3"):
        train_patient_run("patient_kan", recipe, 3, tmp_path / "run", resume=True)
    with pytest.raises(DataNotFoundError, match="nothing to resume"):
        train_patient_run("patient_kan", recipe, 2, tmp_path / "other", resume=True)
