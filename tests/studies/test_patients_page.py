"""The page and the cards are what the command writes from the committed results."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from ecgkan.cli import app
from ecgkan.studies.patients import PatientFolders
from ecgkan.studies.patients_page import patient_card, patients_page

ROOT = Path(__file__).parents[2]
RESULTS = Path("results/patients")
FOLDERS = PatientFolders(
    recipe=RESULTS / "patient-1.json", runs=Path("runs/patients"), log=Path("docs/ds2-scorings.jsonl")
)


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_the_committed_page_and_cards_are_what_is_written(tmp_path: Path) -> None:
    written = CliRunner().invoke(
        app, ["patients", "report", "--page", str(tmp_path / "page.md"), "--cards", str(tmp_path)]
    )
    assert written.exit_code == 0, written.output
    assert (tmp_path / "page.md").read_text() == (ROOT / "docs" / "new-patients.md").read_text()
    for model in ("patient_mlp", "patient_kan"):
        assert (tmp_path / f"{model}.md").read_text() == (ROOT / "checkpoints" / f"{model}.md").read_text()


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    page = patients_page(FOLDERS, tmp_path / "none.json")
    assert "Not measured yet: `ecgkan patients stress`" in page
    assert "EC57" not in patient_card(FOLDERS, "patient_kan", tmp_path / "none.json").split("## Where it fails")[0]
