"""The log of test-set scorings grows by whole lines and loses none."""

import dataclasses
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from ecgkan.errors import DataError, DataNotFoundError
from ecgkan.evaluation.evaluate import CodeVersion
from ecgkan.evaluation.scoring_log import append_scorings, scoring_entry


def test_entry_says_when_what_and_which(evaluations):
    noon_in_tokyo = datetime(2024, 5, 1, 12, 0, 0, tzinfo=timezone(timedelta(hours=9)))
    evaluation = evaluations[0]
    entry = scoring_entry(evaluation, CodeVersion("1.2.3", "abc"), noon_in_tokyo)
    assert entry["date_utc"] == "2024-05-01T03:00:00Z"
    assert (entry["ecgkan"], entry["commit"]) == ("1.2.3", "abc")
    assert entry["protocol"] == "random-split"
    assert entry["weights_sha256"] == evaluation.weights_sha256
    assert (entry["model"], entry["recipe"], entry["seed"], entry["selected_epoch"]) == ("cnn_mlp", "best", 7, 3)
    assert entry["macro_f1"] == round(evaluation.metrics.macro_f1, 6)
    assert list(entry["f1"]) == ["N", "S", "V", "F", "Q"]
    assert "shared between training and test" in entry["note"]


def test_appending_keeps_what_is_there(tmp_path, evaluations):
    log = tmp_path / "test-scorings.jsonl"
    append_scorings(log, evaluations)
    first = log.read_text()
    append_scorings(log, evaluations[:1])
    assert log.read_text().startswith(first)
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert [entry["model"] for entry in entries] == ["cnn_mlp", "cnn_kan", "cnn_mlp"]
    age = datetime.now(UTC) - datetime.strptime(entries[0]["date_utc"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert timedelta(0) <= age < timedelta(minutes=5)


def test_a_line_cut_short_does_not_swallow_the_next(tmp_path, evaluations):
    log = tmp_path / "log.jsonl"
    log.write_text('{"whole": 1}\n{"cut sho')
    append_scorings(log, evaluations[:1])
    lines = log.read_text().splitlines()
    assert lines[:2] == ['{"whole": 1}', '{"cut sho']
    assert json.loads(lines[2])["model"] == "cnn_mlp"


def test_only_the_test_set_is_logged(tmp_path, evaluations):
    log = tmp_path / "log.jsonl"
    with pytest.raises(DataError, match="validation set"):
        append_scorings(log, [evaluations[0], dataclasses.replace(evaluations[1], subset="validation")])
    assert not log.exists()


def test_a_log_that_cannot_be_is_named(tmp_path, evaluations):
    for log in (tmp_path / "missing" / "log.jsonl", tmp_path):
        with pytest.raises(DataNotFoundError, match="existing folder"):
            append_scorings(log, evaluations)
