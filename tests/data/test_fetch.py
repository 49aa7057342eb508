"""Fetching against a real HTTP server on loopback that cuts, stalls, ignores ranges and serves wrong bytes."""

import errno
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

from ecgkan.data.databases import Database, DatabaseFile, verify_database
from ecgkan.data.fetch import FetchProgress, fetch_database
from ecgkan.data.sources import RetryPolicy
from ecgkan.errors import DataError, FetchError

IMPATIENT = RetryPolicy(attempts=3, first_delay_s=0.001, timeout_s=5.0)
CHUNK_BYTES = 1 << 14

# --- a database made up for these tests, and a server of it -------------------------------------


def _made_up_content() -> dict[str, bytes]:
    rng = random.Random(0)
    content = {f"{record}.dat": rng.randbytes(150_000) for record in range(100, 108)}
    content |= {f"{record}.hea": rng.randbytes(140) for record in range(100, 108)}
    return content | {"RECORDS": "".join(f"{record}\n" for record in range(100, 108)).encode()}


CONTENT = _made_up_content()


def as_database(content: dict[str, bytes], name: str = "mitdb") -> Database:
    files = (DatabaseFile(file, len(data), hashlib.sha256(data).hexdigest()) for file, data in sorted(content.items()))
    return Database(name, tuple(files))


DATABASE = as_database(CONTENT)
LARGEST = "103.dat"


class Request(NamedTuple):
    file: str
    start: int | None
    """First byte asked for, None without a Range header."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_GET(self):
        file = self.path.rpartition("/")[2]
        content = self.server.content.get(self.path)
        if content is None:
            self.send_error(404)
            return
        with self.server.busy():
            self.server.requests.append(Request(file, self.range_start()))
            self.server.next_answer(file)(self, content)

    def range_start(self) -> int | None:
        header = self.headers.get("Range")
        return int(header.removeprefix("bytes=").removesuffix("-")) if header else None

    def send_head(self, status: int, length: int | None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Connection", "close")
        self.close_connection = True
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def send_bytes(self, data: bytes) -> None:
        for start in range(0, len(data), CHUNK_BYTES):
            self.wfile.write(data[start : start + CHUNK_BYTES])
            self.server.sent_bytes += len(data[start : start + CHUNK_BYTES])
            time.sleep(self.server.pause_s)

    def log_message(self, *args):
        pass


Answer = Callable[[Handler, bytes], None]


def properly(handler: Handler, content: bytes, sent: int | None = None) -> None:
    """Answer as a web server does, ranges included; with `sent`, cut the connection after so many bytes."""
    start = handler.range_start()
    if start is None:
        handler.send_head(200, len(content))
    elif start >= len(content):
        handler.send_head(416, 0, Content_Range=f"bytes */{len(content)}")
        return
    else:
        rest = f"bytes {start}-{len(content) - 1}/{len(content)}"
        handler.send_head(206, len(content) - start, Content_Range=rest)
    handler.send_bytes(content[start or 0 :][:sent])


def cut_after(sent: int) -> Answer:
    return lambda handler, content: properly(handler, content, sent)


def ignoring_range(sent: int | None = None) -> Answer:
    def answer(handler: Handler, content: bytes) -> None:
        handler.send_head(200, len(content))
        handler.send_bytes(content[:sent])

    return answer


def without_length(sent: int | None = None) -> Answer:
    """Send no Content-Length: the end of the connection is the end of the file."""

    def answer(handler: Handler, content: bytes) -> None:
        handler.send_head(200, None)
        handler.send_bytes(content[:sent])

    return answer


def in_http_chunks(sent: int | None = None) -> Answer:
    def answer(handler: Handler, content: bytes) -> None:
        handler.send_head(200, None, Transfer_Encoding="chunked")
        body = content[:sent]
        for start in range(0, len(body), 5000):
            piece = body[start : start + 5000]
            handler.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        if sent is None:
            handler.wfile.write(b"0\r\n\r\n")

    return answer


def with_status(status: int, **headers: str) -> Answer:
    return lambda handler, _: handler.send_head(status, 0, **headers)


def wrong_bytes(handler: Handler, content: bytes) -> None:
    properly(handler, bytes(255 - byte for byte in content))


def shorter(handler: Handler, content: bytes) -> None:
    properly(handler, content[:-7])


def endless(handler: Handler, content: bytes) -> None:
    handler.send_head(200, None)
    with suppress(ConnectionError):
        while handler.server.sent_bytes < 100_000_000:
            handler.send_bytes(content)


def another_range(handler: Handler, content: bytes) -> None:
    if handler.range_start() is None:
        properly(handler, content)
        return
    handler.send_head(206, len(content) - 5, Content_Range=f"bytes 5-{len(content) - 1}/{len(content)}")
    handler.send_bytes(content[5:])


def hanging_up(handler: Handler, content: bytes) -> None:
    handler.close_connection = True


def silent(handler: Handler, content: bytes) -> None:
    properly(handler, content, sent=1000)
    handler.server.closing.wait(30)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, content: dict[str, bytes], below: str = "/"):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = {below + file: data for file, data in content.items()}
        self.answers: dict[str, list[Answer]] = defaultdict(list)
        """What the next requests of a file are answered with; then `always`."""
        self.always: dict[str, Answer] = {}
        self.requests: list[Request] = []
        self.sent_bytes = 0
        self.pause_s = 0.0
        self.most_at_once = 0
        self.closing = threading.Event()
        self._at_once = 0
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def starts_of(self, file: str) -> list[int | None]:
        return [request.start for request in self.requests if request.file == file]

    def next_answer(self, file: str) -> Answer:
        with self._lock:
            return self.answers[file].pop(0) if self.answers[file] else self.always.get(file, properly)

    @contextmanager
    def busy(self) -> Iterator[None]:
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self._lock:
                self._at_once -= 1

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serving(content: dict[str, bytes], below: str = "/") -> Iterator[Server]:
    with Server(content, below) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(CONTENT) as started:
        yield started


@pytest.fixture
def refused_url() -> str:
    """A URL on loopback where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/"


@pytest.fixture(autouse=True)
def stay_on_loopback(monkeypatch, refused_url):
    """No test can reach PhysioNet or a proxy, whatever it forgets to say."""
    monkeypatch.setenv("ECGKAN_PHYSIONET_URL", refused_url)
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)


def assert_complete(root: Path, content: dict[str, bytes] = CONTENT) -> None:
    assert {path.name: path.read_bytes() for path in (root / "mitdb").iterdir()} == content


def put(root: Path, content: dict[str, bytes], *, part: bool = False) -> None:
    (root / "mitdb").mkdir(parents=True, exist_ok=True)
    for file, data in content.items():
        (root / "mitdb" / (file + ".part" * part)).write_bytes(data)


# --- a web server --------------------------------------------------------------------------------


@pytest.mark.parametrize("below", ["/", "/mitdb/", "/mitdb/1.0.0/"])
@pytest.mark.parametrize("by", ["--from", "environment"])
def test_fetches_every_file_wherever_the_server_has_them(below, by, tmp_path, monkeypatch):
    with serving(CONTENT, below) as server:
        monkeypatch.setenv("ECGKAN_PHYSIONET_URL", server.url)
        source = server.url.rstrip("/") if by == "--from" else None
        report = fetch_database(DATABASE, tmp_path, source=source, retry=IMPATIENT)
    assert_complete(tmp_path)
    assert report.fetched == tuple(sorted(CONTENT))
    assert report.kept == ()
    assert {problem.kind for problem in report.problems} == {"missing"}
    assert report.folder == tmp_path / "mitdb"


def test_fetches_four_files_at_a_time(server, tmp_path):
    everyone_here = threading.Barrier(4)

    def together(handler: Handler, content: bytes) -> None:
        everyone_here.wait(10)  # broken unless four requests are open at once
        properly(handler, content)

    server.always = {file: together for file in CONTENT if file.endswith(".dat")}
    fetch_database(as_database({f: d for f, d in CONTENT.items() if f.endswith(".dat") or f == "RECORDS"}), tmp_path,
                   source=server.url, retry=IMPATIENT)  # fmt: skip
    assert server.most_at_once == 4


def test_cut_connection_is_resumed_where_it_was_cut(server, tmp_path):
    server.answers[LARGEST] = [cut_after(40_000), cut_after(0), cut_after(50_000), cut_after(1)]
    fetch_database(DATABASE, tmp_path, source=server.url, retry=IMPATIENT)
    assert_complete(tmp_path)
    assert server.starts_of(LARGEST) == [None, 40_000, 40_000, 90_000, 90_001]


def test_partial_file_of_an_earlier_run_is_resumed(server, tmp_path):
    put(tmp_path, {LARGEST: CONTENT[LARGEST][:70_000]}, part=True)
    fetch_database(DATABASE, tmp_path, source=server.url, retry=IMPATIENT)
    assert_complete(tmp_path)
    assert server.starts_of(LARGEST) == [70_000]


def test_complete_partial_file_needs_no_request(server, tmp_path):
    put(tmp_path, {LARGEST: CONTENT[LARGEST]}, part=True)
    fetch_database(DATABASE, tmp_path, source=server.url, retry=IMPATIENT)
    assert_complete(tmp_path)
    assert server.starts_of(LARGEST) == []


@pytest.mark.parametrize("length", [70_000, 150_000, 150_001, 400_000])
def test_wrong_partial_file_is_fetched_from_the_beginning(length, server, tmp_path):
    put(tmp_path, {LARGEST: bytes(length)}, part=True)
    fetch_database(DATABASE, tmp_path, source=server.url, retry=IMPATIENT)
    assert_complete(tmp_path)
    assert server.starts_of(LARGEST) == ([70_000, None] if length == 70_000 else [None])


def test_server_that_ignores_ranges_makes_the_file_start_over(server, tmp_path):
    server.answers[LARGEST] = [cut_after(60_000), ignoring_range(100_000), ignoring_range()]
    fetch_database(DATABASE, tmp_path, source=server.url, retry=IMPATIENT)
    assert_complete(tmp_path)
    assert server.starts_of(LARGEST) == [None, 60_000, 100_000]


def test_server_that_ignores_ranges_and_always_cuts_is_given_up(server, tmp_path):
    server.always[LARGEST] = ignoring_range(60_000)
    with pytest.raises(FetchError, match=r"103\.dat: connection cut after 60,000 of 150,000 bytes, 3 times in a row"):
        fetch_database(DATABASE, tmp_path, source=server.url, retry=IMPATIENT)
    assert len(server.starts_of(LARGEST)) == 4  # one that brought bytes, three that brought none
    assert not (tmp_path / "mitdb" / LARGEST).exists()


@pytest.mark.parametrize("answer", [with_status(416), another_range], ids=["416", "another range"])
def test_refused_range_makes_the_file_start_over(answer, server, tmp_path):
    server.answers[LARGEST] = [cut_after(60_000), answer]
    fetch_database(DATABASE, tmp_path, source=server.url, retry=IMPATIENT)
    assert_complete(tmp_path)
    assert server.starts_of(LARGEST) == [None, 60_000, None]


@pytest.mark.parametrize("framing", [without_length, in_http_chunks])
def test_end_of_a_file_is_known_without_content_length(framing, server, tmp_path):
    server.answers[LARGEST] = [framing(30_000)]
    server.always[LARGEST] = framing()
    fetch_database(DATABASE, tmp_path, source=server.url, retry=IMPATIENT)
    assert_complete(tmp_path)
    assert server.starts_of(LARGEST) == [None, 30_000]


@pytest.mark.parametrize("answer", [hanging_up, with_status(500), with_status(503), with_status(429)])
def test_passing_trouble_is_survived(answer, server, tmp_path):
    server.answers[LARGEST] = [answer, answer]
    fetch_database(DATABASE, tmp_path, source=server.url, retry=IMPATIENT)
    assert_complete(tmp_path)
    assert server.starts_of(LARGEST) == [None] * 3


def test_trouble_on_first_contact_is_survived(server, tmp_path):
    server.answers["RECORDS"] = [hanging_up, with_status(503)]
    fetch_database(DATABASE, tmp_path, source=server.url, retry=IMPATIENT)
    assert_complete(tmp_path)


def test_silent_connection_counts_as_cut(server, tmp_path):
    server.answers[LARGEST] = [silent]
    fetch_database(DATABASE, tmp_path, source=server.url, retry=RetryPolicy(timeout_s=0.3, first_delay_s=0.001))
    assert_complete(tmp_path)
    assert server.starts_of(LARGEST) == [None, 1000]


def test_busy_server_is_left_alone_for_as_long_as_it_asks(server, tmp_path):
    server.answers[LARGEST] = [with_status(503, Retry_After="1")]
    began = time.monotonic()
    fetch_database(DATABASE, tmp_path, source=server.url, retry=IMPATIENT)
    assert time.monotonic() - began >= 1.0
    assert_complete(tmp_path)


def test_retries_wait_longer_each_time():
    policy = RetryPolicy(first_delay_s=0.25)
    assert [policy.delay_s(n) for n in range(4)] == [0.25, 0.5, 1.0, 2.0]


def test_redirection_is_followed_with_its_range(server, tmp_path):
    elsewhere = [with_status(302, Location=f"/elsewhere/{LARGEST}")]
    server.content[f"/elsewhere/{LARGEST}"] = CONTENT[LARGEST]
    server.answers[LARGEST] = [*elsewhere, cut_after(20_000), *elsewhere]
    fetch_database(DATABASE, tmp_path, source=server.url, retry=IMPATIENT)
    assert_complete(tmp_path)
    assert server.starts_of(LARGEST) == [None, None, 20_000, 20_000]


def test_wrong_bytes_once_are_fetched_again(server, tmp_path):
    server.answers[LARGEST] = [wrong_bytes]
    fetch_database(DATABASE, tmp_path, source=server.url, retry=IMPATIENT)
    assert_complete(tmp_path)


@pytest.mark.parametrize(
    ("answer", "found"),
    [(wrong_bytes, "SHA-256"), (shorter, "149,993 bytes"), (endless, "150,001 bytes")],
)
def test_wrong_file_on_the_server_is_named_and_never_put_in_place(answer, found, server, tmp_path):
    server.always[LARGEST] = answer
    with pytest.raises(FetchError, match=rf"1 of 17 files .*{LARGEST} is not the published file \(found {found}") as e:
        fetch_database(DATABASE, tmp_path, source=server.url, retry=IMPATIENT)
    assert "\n" not in str(e.value)
    assert_complete(tmp_path, {file: data for file, data in CONTENT.items() if file != LARGEST})
    assert server.sent_bytes < 20_000_000


def test_file_the_server_does_not_have_is_named_and_the_others_arrive(server, tmp_path):
    del server.content[f"/{LARGEST}"]
    with pytest.raises(
        FetchError, match=r"1 of 17 files of mitdb could not be fetched: .*/103\.dat: HTTP 404 Not Found"
    ):
        fetch_database(DATABASE, tmp_path, source=server.url, retry=IMPATIENT)
    assert_complete(tmp_path, {file: data for file, data in CONTENT.items() if file != LARGEST})
    server.content[f"/{LARGEST}"] = CONTENT[LARGEST]
    assert fetch_database(DATABASE, tmp_path, source=server.url, retry=IMPATIENT).fetched == (LARGEST,)
    assert_complete(tmp_path)


def test_failing_file_does_not_keep_the_others_from_arriving(server, tmp_path):
    server.always[LARGEST] = with_status(500)
    with pytest.raises(FetchError, match=r"1 of 17 files .*103\.dat: HTTP 500 .*, 3 times in a row"):
        fetch_database(DATABASE, tmp_path, source=server.url, retry=IMPATIENT)
    assert_complete(tmp_path, {file: data for file, data in CONTENT.items() if file != LARGEST})


@pytest.mark.parametrize("answer", [with_status(500), wrong_bytes, hanging_up], ids=["500", "wrong bytes", "hangs up"])
def test_server_that_delivers_nothing_is_given_up_after_a_few_files(answer, server, tmp_path):
    server.always = dict.fromkeys(CONTENT, answer)
    with pytest.raises(FetchError, match="17 of 17 files of mitdb could not be fetched") as caught:
        fetch_database(DATABASE, tmp_path, source=server.url, retry=IMPATIENT)
    assert len({request.file for request in server.requests}) < 12
    assert "--from FOLDER|ZIP|URL" in str(caught.value)
    assert not any((tmp_path / "mitdb" / file).exists() for file in CONTENT)


def test_server_with_none_of_the_files_says_404(server, tmp_path):
    server.content = {}
    with pytest.raises(
        FetchError, match=r"17 of 17 files .*100\.dat: HTTP 404 Not Found;.*also 102\.hea, 103\.dat, 103\.hea"
    ):
        fetch_database(DATABASE, tmp_path, source=server.url, retry=IMPATIENT)


@pytest.mark.parametrize("by", ["--from", "environment"])
def test_no_network_is_one_line_that_says_what_to_do(by, refused_url, tmp_path):
    began = time.monotonic()
    with pytest.raises(FetchError) as caught:
        fetch_database(DATABASE, tmp_path, source=refused_url if by == "--from" else None)
    assert time.monotonic() - began < 5
    assert str(caught.value) == (
        f"cannot reach {refused_url} (Connection refused); get the files another way and run "
        "`ecgkan data fetch mitdb --from FOLDER|ZIP|URL`, or set ECGKAN_DATA to a folder that holds mitdb/"
    )
    assert list(tmp_path.iterdir()) == []


def test_network_lost_on_the_way_is_one_line_and_the_next_run_goes_on(tmp_path):
    with serving(CONTENT) as first:

        def vanish(handler: Handler, content: bytes) -> None:
            properly(handler, content, sent=90_000)
            threading.Thread(target=first.shutdown).start()
            first.socket.close()

        first.answers["104.dat"] = [vanish]
        with pytest.raises(FetchError, match=r"^cannot reach http://127.*--from FOLDER\|ZIP\|URL"):
            fetch_database(DATABASE, tmp_path, source=first.url, retry=IMPATIENT)
    assert not (tmp_path / "mitdb" / "104.dat").exists()
    arrived = {path.name for path in (tmp_path / "mitdb").iterdir() if path.suffix != ".part"}
    assert "100.dat" in arrived
    with serving(CONTENT) as second:
        fetch_database(DATABASE, tmp_path, source=second.url, retry=IMPATIENT)
        assert second.starts_of("104.dat") == [90_000]
        assert not arrived & {request.file for request in second.requests}
    assert_complete(tmp_path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("ftp://127.0.0.1/mitdb", "expected an http:// or https:// URL"),
        ("http://127.0.0.1/mitdb.zip", "is a zip; download it"),
        ("http://", "cannot reach"),
        ("http://127.0.0.1:port/", "cannot reach"),
    ],
)
def test_url_that_cannot_be_used_is_refused(source, message, tmp_path):
    with pytest.raises(FetchError, match=message):
        fetch_database(DATABASE, tmp_path, source=source)


# --- what is on disk already ---------------------------------------------------------------------


def test_only_bad_files_are_fetched_and_each_is_named(server, tmp_path):
    put(tmp_path, CONTENT)
    folder = tmp_path / "mitdb"
    (folder / "100.dat").write_bytes(CONTENT["100.dat"][:-1])
    (folder / "101.hea").write_bytes(b"x" + CONTENT["101.hea"][1:])
    (folder / "102.dat").unlink()
    untouched = {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in folder.iterdir()}
    named = []
    report = fetch_database(DATABASE, tmp_path, source=server.url, retry=IMPATIENT, on_problems=named.extend)
    assert [(p.file, p.kind) for p in named] == [
        ("100.dat", "truncated"), ("101.hea", "corrupted"), ("102.dat", "missing")]  # fmt: skip
    assert report.problems == tuple(named)
    assert report.fetched == ("100.dat", "101.hea", "102.dat")
    assert len(report.kept) == len(CONTENT) - 3
    assert {request.file for request in server.requests} - {"RECORDS"} == set(report.fetched)
    assert_complete(tmp_path)
    for path in folder.iterdir():
        if path.name in report.kept:
            assert (path.stat().st_ino, path.stat().st_mtime_ns) == untouched[path.name]


def test_bad_file_stays_until_a_verified_one_replaces_it(server, tmp_path):
    put(tmp_path, {**CONTENT, LARGEST: b"damaged"})
    server.always[LARGEST] = wrong_bytes
    with pytest.raises(FetchError, match="is not the published file"):
        fetch_database(DATABASE, tmp_path, source=server.url, retry=IMPATIENT)
    assert_complete(tmp_path, {**CONTENT, LARGEST: b"damaged"})


def test_complete_database_needs_no_source_and_leftover_parts_go(tmp_path):
    put(tmp_path, CONTENT)
    put(tmp_path, {LARGEST: b"leftover"}, part=True)
    report = fetch_database(DATABASE, tmp_path)  # the default source refuses connections here
    assert report.fetched == report.problems == ()
    assert_complete(tmp_path)


# --- interruptions -------------------------------------------------------------------------------

FETCH_PROGRAM = """
import json, sys
from pathlib import Path
from ecgkan.data.databases import Database, DatabaseFile
from ecgkan.data.fetch import fetch_database
files = tuple(DatabaseFile(*file) for file in json.loads(sys.argv[1]))
fetch_database(Database("mitdb", files), Path(sys.argv[2]), source=sys.argv[3])
"""


def listen_to_ctrl_c() -> None:
    """Undo what a child inherits where the tests run in the background: SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start_fetch(root: Path, url: str) -> subprocess.Popen[str]:
    arguments = [json.dumps(DATABASE.files), str(root), url]
    command = [sys.executable, "-c", FETCH_PROGRAM, *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=listen_to_ctrl_c)


def wait_until(condition: Callable[[], bool], limit_s: float = 30.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def test_killed_at_any_moment_and_run_again_it_completes(server, tmp_path):
    server.pause_s = 0.02
    for kill_after_bytes in (1, 200_000, 500_000):
        sent_before = server.sent_bytes
        with start_fetch(tmp_path, server.url) as process:
            wait_until(lambda: server.sent_bytes >= sent_before + kill_after_bytes)  # noqa: B023
            process.kill()
        assert process.returncode == -signal.SIGKILL
        kinds = {problem.kind for problem in verify_database(DATABASE, tmp_path)}
        assert kinds == {"missing"}  # never a final name with other bytes than the published ones
    assert list((tmp_path / "mitdb").glob("*.part"))
    server.pause_s = 0.0
    with start_fetch(tmp_path, server.url) as process:
        assert process.wait(60) == 0, process.stderr.read()
    assert_complete(tmp_path)
    total_bytes = sum(map(len, CONTENT.values()))
    assert server.sent_bytes < 1.8 * total_bytes  # resumed: starting over each time would send more than twice that


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C cannot be sent to one process there")
def test_ctrl_c_is_obeyed_at_once_even_while_the_server_is_silent(server, tmp_path):
    server.always = {file: silent for file in CONTENT if file.endswith(".dat")}
    with start_fetch(tmp_path, server.url) as process:
        wait_until(lambda: len(list((tmp_path / "mitdb").glob("*.dat.part"))) == 4)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=30)[1]
    assert time.monotonic() - began < 5
    assert "KeyboardInterrupt" in errors
    server.always = {}
    fetch_database(DATABASE, tmp_path, source=server.url, retry=IMPATIENT)
    assert_complete(tmp_path)


# --- a folder or a zip ---------------------------------------------------------------------------


@pytest.mark.parametrize("below", ["", "mitdb", "mitdb/1.0.0"])
def test_fetches_from_a_folder(below, tmp_path):
    (tmp_path / "source" / below).mkdir(parents=True)
    for file, data in CONTENT.items():
        (tmp_path / "source" / below / file).write_bytes(data)
    put(tmp_path / "root", {LARGEST: b"leftover of another fetch"}, part=True)
    fetch_database(DATABASE, tmp_path / "root", source=tmp_path / "source")
    assert_complete(tmp_path / "root")


def test_folder_that_lacks_or_spoils_files_gives_the_others(tmp_path):
    put(tmp_path / "source", {**CONTENT, "104.hea": b"short"})
    (tmp_path / "source" / "mitdb" / LARGEST).unlink()
    with pytest.raises(FetchError, match=r"2 of 17 files .*103\.dat: No such file.*104\.hea is not the published file"):
        fetch_database(DATABASE, tmp_path / "root", source=str(tmp_path / "source"))
    assert_complete(tmp_path / "root", {f: d for f, d in CONTENT.items() if f not in (LARGEST, "104.hea")})


def test_data_folder_as_its_own_source_spoils_nothing(tmp_path):
    put(tmp_path, {**CONTENT, LARGEST: b"damaged"})
    with pytest.raises(FetchError, match=r"103\.dat is not the published file"):
        fetch_database(DATABASE, tmp_path, source=tmp_path)
    assert_complete(tmp_path, {**CONTENT, LARGEST: b"damaged"})


def make_zip(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    return path


@pytest.mark.parametrize("folder", ["", "mitdb/", "mit-bih-arrhythmia-database-1.0.0/", "./a/b/", "../", "/"])
def test_fetches_from_a_zip_whatever_folder_it_has(folder, tmp_path):
    source = make_zip(tmp_path / "mitdb.zip", {folder + file: data for file, data in CONTENT.items()})
    fetch_database(DATABASE, tmp_path / "root", source=source)
    assert_complete(tmp_path / "root")
    assert {path.name for path in tmp_path.iterdir()} == {"mitdb.zip", "root"}


def test_zip_with_other_databases_and_hostile_members_gives_only_our_files(tmp_path):
    others = {
        "nstdb/RECORDS": b"em\n",
        "x_mitdb/100.dat": b"not this one",
        "../../outside.txt": b"out",
        "mitdb/../../100.hea": b"out",
        "/absolute.txt": b"out",
    }
    source = make_zip(tmp_path / "all.zip", {**others, **{f"mitdb/{f}": d for f, d in CONTENT.items()}})
    fetch_database(DATABASE, tmp_path / "a" / "b" / "root", source=source)
    assert_complete(tmp_path / "a" / "b" / "root")
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path.parent.name != "mitdb"]
    assert written == [source]


def test_zip_that_lacks_or_spoils_files_gives_the_others(tmp_path):
    members = {file: data for file, data in CONTENT.items() if file != "102.dat"}
    members["104.dat"] = bytes(50_000_000)  # small in the zip, huge outside: read no further than it may be long
    source = make_zip(tmp_path / "mitdb.zip", members)
    damaged = bytearray(source.read_bytes())
    where = damaged.index(CONTENT["105.dat"][:50])  # random bytes do not compress: they stand there as they are
    damaged[where : where + 10] = b"0123456789"
    source.write_bytes(damaged)
    with pytest.raises(FetchError, match=r"3 of 17 files") as caught:
        fetch_database(DATABASE, tmp_path / "root", source=source)
    assert "102.dat: no such file in the zip" in str(caught.value)
    assert "104.dat is not the published file (found 150,001 bytes" in str(caught.value)
    assert "mitdb.zip:105.dat: Bad CRC-32" in str(caught.value)
    bad = ("102.dat", "104.dat", "105.dat")
    good = {f: d for f, d in CONTENT.items() if f not in bad}
    found = {p.name: p.read_bytes() for p in (tmp_path / "root" / "mitdb").iterdir() if p.suffix != ".part"}
    assert found == good


def test_encrypted_zip_is_refused(tmp_path):
    source = make_zip(tmp_path / "mitdb.zip", CONTENT, zipfile.ZIP_STORED)
    data = bytearray(source.read_bytes())
    for signature, flags_at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        position = data.find(signature)
        while position >= 0:
            data[position + flags_at] |= 1
            position = data.find(signature, position + 1)
    source.write_bytes(data)
    with pytest.raises(FetchError, match="is encrypted, password required"):
        fetch_database(DATABASE, tmp_path / "root", source=source)


def test_source_that_is_none_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.zip").write_text("no zip")
    make_zip(tmp_path / "other.zip", {"readme.txt": b"nothing here"})
    for source, message in {
        "nowhere": "no such folder or file: .*nowhere",
        "empty": "no file of mitdb in .*empty .*looked in",
        "text.zip": r"cannot read .*text\.zip as a zip \(File is not a zip file\)",
        "other.zip": r"no file of mitdb in the zip .*other\.zip",
    }.items():
        with pytest.raises(FetchError, match=message):
            fetch_database(DATABASE, tmp_path / "root", source=tmp_path / source)
    assert not (tmp_path / "root").exists()


# --- the folder that is written ------------------------------------------------------------------


def test_data_root_that_is_a_file_is_refused(server, tmp_path):
    (tmp_path / "root").write_text("a file")
    with pytest.raises(FetchError, match=r"cannot write .*root/mitdb: .*root is not a folder; .* --data-dir"):
        fetch_database(DATABASE, tmp_path / "root", source=server.url)
    assert server.requests == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, where nobody may create a folder")
def test_place_where_no_folder_can_be_created_is_refused(server):
    with pytest.raises(FetchError, match=r"cannot write /proc/ecgkan/mitdb: .*--data-dir or ECGKAN_DATA"):
        fetch_database(DATABASE, Path("/proc/ecgkan"), source=server.url)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_data_root_is_refused_before_anything_is_asked(server, tmp_path):
    put(tmp_path, {"RECORDS": CONTENT["RECORDS"]})
    (tmp_path / "mitdb").chmod(0o555)
    with pytest.raises(FetchError, match=r"cannot write .*mitdb: Permission denied; make it writable"):
        fetch_database(DATABASE, tmp_path, source=server.url)
    (tmp_path / "mitdb").chmod(0o755)
    assert server.requests == []


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may enter every folder")
def test_folder_that_may_not_be_entered_is_refused_as_root_and_as_source(server, tmp_path):
    locked = tmp_path / "locked"
    put(locked, CONTENT)
    locked.chmod(0)
    with pytest.raises(FetchError, match=r"cannot write .*locked/mitdb: Permission denied"):
        fetch_database(DATABASE, locked, source=server.url)
    with pytest.raises(FetchError, match=r"cannot read .*locked/mitdb: Permission denied"):
        fetch_database(DATABASE, tmp_path, source=locked / "mitdb")
    locked.chmod(0o755)


def test_no_workers_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot fetch with 0 workers"):
        fetch_database(DATABASE, tmp_path, workers=0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_full_disk_is_one_clear_error_and_leaves_nothing_of_the_file(server, tmp_path):
    (tmp_path / "mitdb").mkdir()
    (tmp_path / "mitdb" / f"{LARGEST}.part").symlink_to("/dev/full")
    with pytest.raises(FetchError, match=rf"cannot write .*{LARGEST}\.part: No space left on device; make room there"):
        fetch_database(DATABASE, tmp_path, source=server.url, retry=IMPATIENT)
    assert not (tmp_path / "mitdb" / LARGEST).exists()
    assert not (tmp_path / "mitdb" / f"{LARGEST}.part").is_symlink()
    assert {p.kind for p in verify_database(DATABASE, tmp_path)} == {"missing"}


def test_disk_that_cannot_hold_the_database_is_refused_before_it_is_filled(server, tmp_path):
    huge = Database("mitdb", (*DATABASE.files, DatabaseFile("huge.dat", 10**18, "0" * 64)))
    with pytest.raises(
        FetchError, match=f"{os.strerror(errno.ENOSPC)}: 1,000,000,0.* bytes are needed and .* are free"
    ):
        fetch_database(huge, tmp_path, source=server.url)
    assert list((tmp_path / "mitdb").iterdir()) == []


def test_final_name_taken_by_a_folder_is_one_clear_error(server, tmp_path):
    (tmp_path / "mitdb" / LARGEST).mkdir(parents=True)
    with pytest.raises(FetchError, match=r"cannot write .*103\.dat: Is a directory"):
        fetch_database(DATABASE, tmp_path, source=server.url, retry=IMPATIENT)


@pytest.mark.skipif(sys.platform == "win32", reason="no lock there")
def test_second_fetch_into_the_same_folder_is_refused(server, tmp_path):
    server.always[LARGEST] = silent
    with start_fetch(tmp_path, server.url) as process:
        wait_until(lambda: (tmp_path / "mitdb" / f"{LARGEST}.part").exists())
        with pytest.raises(FetchError, match=r"another fetch is writing to .*mitdb; wait for it to end"):
            fetch_database(DATABASE, tmp_path, source=server.url, retry=IMPATIENT)
        process.kill()
    server.always = {}
    fetch_database(DATABASE, tmp_path, source=server.url, retry=IMPATIENT)  # the lock died with its holder
    assert_complete(tmp_path)


# --- progress ------------------------------------------------------------------------------------


def test_progress_tells_bytes_and_files_up_to_the_end(server, tmp_path):
    put(tmp_path, {"100.dat": CONTENT["100.dat"]})
    seen: list[FetchProgress] = []
    fetch_database(DATABASE, tmp_path, source=server.url, retry=IMPATIENT, on_progress=seen.append)
    total_bytes = sum(map(len, CONTENT.values())) - len(CONTENT["100.dat"])
    assert {(state.bytes_total, state.files_total) for state in seen} == {(total_bytes, 16)}
    assert [state.bytes_done for state in seen] == sorted(state.bytes_done for state in seen)
    assert seen[-1].bytes_done == total_bytes
    assert seen[-1].files_done == 16


def test_error_of_the_progress_callback_ends_the_fetch_and_is_not_taken_for_a_bad_connection(server, tmp_path):
    def closed_pipe(state: FetchProgress) -> None:
        raise BrokenPipeError("nobody reads")

    with pytest.raises(BrokenPipeError, match="nobody reads"):
        fetch_database(DATABASE, tmp_path, source=server.url, retry=IMPATIENT, on_progress=closed_pipe)
    assert max(len(server.starts_of(file)) for file in CONTENT if file != "RECORDS") == 1


# --- the real database ---------------------------------------------------------------------------


def test_real_database_survives_every_kind_of_trouble(mitdb_dir, tmp_path):
    content = {path.name: path.read_bytes() for path in mitdb_dir.iterdir() if path.suffix in (".dat", ".hea", ".atr")}
    content |= {name: (mitdb_dir / name).read_bytes() for name in ("RECORDS", "ANNOTATORS")}
    troubles = [
        [cut_after(700_000), cut_after(300_000)],
        [cut_after(1_949_999), ignoring_range()],
        [wrong_bytes],
        [cut_after(900_000), wrong_bytes],
        [with_status(503), hanging_up],
        [cut_after(5), with_status(416)],
    ]
    with serving(content, below="/files/mitdb/1.0.0/") as server:
        records = [file for file in content if file.endswith(".dat")]
        server.answers.update({file: list(troubles[n % len(troubles)]) for n, file in enumerate(records)})
        report = fetch_database("mitdb", tmp_path, source=f"{server.url}files/mitdb/1.0.0", retry=IMPATIENT)
        assert not any(server.answers.values())  # every trouble was met
    assert len(report.fetched) == 146
    assert verify_database("mitdb", tmp_path) == []
    assert_complete(tmp_path, content)
