"""`ecgkan data fetch` and `ecgkan data verify`, as a shell sees them."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ecgkan.data.databases import load_database


def ecgkan(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = "import sys; from ecgkan.cli import main; sys.argv[0] = 'ecgkan'; main()"
    variables = {**os.environ, "ECGKAN_PHYSIONET_URL": refused_url(), "COLUMNS": "200", **environment}
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, env=variables, timeout=120
    )


def refused_url() -> str:
    """Return a URL on loopback where nobody listens: these tests never ask PhysioNet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/"


@pytest.mark.parametrize("command", ["fetch", "verify"])
def test_help_shows_an_example(command):
    run = ecgkan("data", command, "--help")
    assert run.returncode == 0
    assert f"ecgkan data {command} mitdb" in run.stdout


def test_unknown_database_is_a_usage_error():
    run = ecgkan("data", "verify", "ltdb")
    assert run.returncode == 2
    assert "mitdb" in run.stderr


def test_no_network_is_one_line_on_stderr_and_status_1(tmp_path):
    run = ecgkan("data", "fetch", "mitdb", "--data-dir", str(tmp_path))
    assert run.returncode == 1
    assert run.stdout == ""
    assert len(run.stderr.splitlines()) == 1
    assert run.stderr.startswith("ecgkan: cannot reach http://127.0.0.1")
    assert "--from FOLDER|ZIP|URL" in run.stderr
    assert "ECGKAN_DATA" in run.stderr


def test_verify_of_nothing_names_every_file_and_exits_with_1(tmp_path):
    run = ecgkan("data", "verify", "nstdb", ECGKAN_DATA=str(tmp_path))
    assert run.returncode == 1
    assert [line.split(":")[0] for line in run.stdout.splitlines()] == [f.name for f in load_database("nstdb").files]
    assert "`ecgkan data fetch nstdb` mends them" in run.stderr


def test_fetch_from_a_folder_then_damage_verify_and_mend(data_dir: Path, tmp_path):
    folder = tmp_path / "nstdb"
    fetched = ecgkan("data", "fetch", "nstdb", "--from", str(data_dir), "--data-dir", str(tmp_path))
    assert (fetched.returncode, fetched.stderr) == (0, "")  # quiet in a pipe
    assert fetched.stdout == (f"nstdb is complete in {folder}: 43 files fetched and verified, 0 were right already\n")
    verified = ecgkan("data", "verify", "nstdb", "--data-dir", str(tmp_path))
    assert verified.returncode == 0
    assert verified.stdout == f"nstdb is complete in {folder}: 43 files, each as published\n"

    (folder / "bw.dat").write_bytes((folder / "bw.dat").read_bytes()[:-1])
    (folder / "em.hea").write_text("em 2 360 650000\n".ljust((folder / "em.hea").stat().st_size))
    (folder / "RECORDS").unlink()
    damaged = ecgkan("data", "verify", "nstdb", "--data-dir", str(tmp_path), "--json")
    assert damaged.returncode == 1
    problems = {problem["file"]: problem["kind"] for problem in json.loads(damaged.stdout)["problems"]}
    assert problems == {"bw.dat": "truncated", "em.hea": "corrupted", "RECORDS": "missing"}

    mended = ecgkan("data", "fetch", "nstdb", "--from", str(data_dir), "--data-dir", str(tmp_path), "--json")
    assert mended.returncode == 0
    assert json.loads(mended.stdout)["fetched"] == ["RECORDS", "bw.dat", "em.hea"]
    assert "bw.dat: truncated" in mended.stderr
    assert "em.hea: corrupted" in mended.stderr
    assert "1 missing: RECORDS" in mended.stderr
    assert ecgkan("data", "verify", "nstdb", "--data-dir", str(tmp_path)).returncode == 0


@pytest.mark.skipif(shutil.which("script") is None, reason="needs the program script, which lends a terminal")
def test_progress_bar_is_shown_on_a_terminal(data_dir: Path, tmp_path):
    program = f"{sys.executable} -m ecgkan.cli data fetch nstdb --from {data_dir} --data-dir {tmp_path}"
    run = subprocess.run(
        ["script", "--quiet", "--return", "--command", program, "/dev/null"],
        capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"},
    )  # fmt: skip
    assert run.returncode == 0, run.stdout
    assert "43/43 files" in run.stdout
    assert "31." in run.stdout and "MB" in run.stdout
