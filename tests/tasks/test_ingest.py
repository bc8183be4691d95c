"""Where raw files come from, and what happens when a place has them altered, cut short or not at all."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from problems.outline.catalogue import load_problem
from problems.outline.problem import PackageCopy, Problem, Source
from store import open_store
from store.artifacts import Store
from tasks.ingest import SourceUnavailable, Wanted, fetch, fetch_all

DATA = b"a,b\n1,2\n3,4\n"
DIGEST = hashlib.sha256(DATA).hexdigest()
NOWHERE = "http://127.0.0.1:9/numbers.csv"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    folder = tmp_path / "mirror"
    folder.mkdir()
    return folder


def make_source(**fields: object) -> Source:
    values = {"name": "numbers.csv", "url": NOWHERE, "sha256": DIGEST, "size": len(DATA), "licence": "CC0"}
    return Source(**{**values, **fields})  # type: ignore[arg-type]


def wanted(mirror: object = "", data: str = "", full: bool = False) -> Wanted:
    return Wanted("numbers", str(mirror), data, full)


Answers = list[tuple[int, bytes, int]]  # status, body, announced length


@pytest.fixture
def serve() -> Iterator[Callable[[Answers], tuple[str, list[str]]]]:
    """A server on loopback that gives one answer after the other, the last one for ever; the paths that were asked."""
    servers = []

    def start(answers: Answers) -> tuple[str, list[str]]:
        asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                status, body, length = answers[min(len(asked), len(answers)) - 1]
                self.send_response(status)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}", asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def test_a_file_of_the_mirror_is_verified_and_kept_in_the_store(store: Store, mirror: Path) -> None:
    (mirror / "numbers.csv").write_bytes(DATA)
    found = fetch(make_source(), store, wanted(mirror))
    assert (found.origin, found.differs, found.ref.sha256) == ("mirror", "", DIGEST)
    (mirror / "numbers.csv").unlink()
    assert fetch(make_source(), store, wanted(mirror)).origin == "store"


def test_a_mirror_may_be_a_web_server(store: Store, serve: Callable[..., tuple[str, list[str]]]) -> None:
    address, asked = serve([(404, b"", 0), (200, DATA, len(DATA))])
    assert fetch(make_source(), store, wanted(address)).origin == "mirror"
    assert asked == ["/mirror.toml", "/numbers.csv"]


def test_an_altered_file_of_the_mirror_is_not_used_and_the_next_place_serves(
    store: Store, mirror: Path, serve: Callable[..., tuple[str, list[str]]]
) -> None:
    (mirror / "numbers.csv").write_bytes(DATA.replace(b"1", b"7"))
    address, _ = serve([(200, DATA, len(DATA))])
    found = fetch(make_source(url=f"{address}/numbers.csv"), store, wanted(mirror))
    assert found.origin == f"{address}/numbers.csv"
    assert store.read_bytes(found.ref) == DATA


def test_a_substitute_is_used_only_when_mirror_toml_names_it_and_says_what_differs(store: Store, mirror: Path) -> None:
    other = DATA + b"5,6\n"
    (mirror / "numbers-2.csv").write_bytes(other)
    digest = hashlib.sha256(other).hexdigest()
    entry = f'["numbers.csv"]\nfile = "numbers-2.csv"\nsha256 = "{digest}"\nnote = "one row more"\n'
    (mirror / "mirror.toml").write_text(entry)
    found = fetch(make_source(), store, wanted(mirror))
    assert (found.ref.sha256, found.differs) == (digest, "substitute: one row more")


def test_a_copy_that_is_known_to_hold_the_same_values_is_used_and_says_so(store: Store, mirror: Path) -> None:
    other = DATA.replace(b"1", b"1.0")
    (mirror / "numbers.csv").write_bytes(other)
    digest = hashlib.sha256(other).hexdigest()
    found = fetch(make_source(rewritten={digest: "1 is 1.0"}), store, wanted(mirror))
    assert (found.ref.sha256, found.differs) == (digest, "the same values in other bytes: 1 is 1.0")


def test_a_substitute_cannot_lead_out_of_the_mirror(store: Store, mirror: Path) -> None:
    (mirror.parent / "secret").write_bytes(b"secret")
    digest = hashlib.sha256(b"secret").hexdigest()
    (mirror / "mirror.toml").write_text(f'["numbers.csv"]\nfile = "../secret"\nsha256 = "{digest}"\nnote = "no"\n')
    with pytest.raises(SourceUnavailable, match="leads out of it"):
        fetch(make_source(), store, wanted(mirror))


def test_a_package_that_carries_a_part_serves_unless_all_is_asked_for(store: Store) -> None:
    import mlxtend

    path = Path(mlxtend.__file__).parent / "data" / "data" / "wine.csv"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    copy = PackageCopy(package="mlxtend", path="data/data/wine.csv", sha256=digest, partial="a part")
    found = fetch(make_source(package=copy), store, wanted())
    assert (found.origin, found.differs) == ("package mlxtend", "a part")
    with pytest.raises(SourceUnavailable, match="the full data was asked for"):
        fetch(make_source(package=copy), store, wanted(full=True))


def test_passing_faults_of_a_server_are_tried_again(store: Store, serve: Callable[..., tuple[str, list[str]]]) -> None:
    """A 503, then a body that is cut short, then the file."""
    address, asked = serve([(503, b"", 0), (200, DATA[:5], len(DATA)), (200, DATA, len(DATA))])
    assert fetch(make_source(url=address + "/numbers.csv"), store, wanted()).ref.sha256 == DIGEST
    assert len(asked) == 3


def test_a_missing_file_is_not_asked_for_again(store: Store, serve: Callable[..., tuple[str, list[str]]]) -> None:
    address, asked = serve([(404, b"", 0)])
    with pytest.raises(SourceUnavailable, match="answered 404"):
        fetch(make_source(url=address + "/numbers.csv"), store, wanted())
    assert len(asked) == 1


def test_a_server_that_sends_without_end_is_stopped(store: Store, serve: Callable[..., tuple[str, list[str]]]) -> None:
    address, _ = serve([(200, b"x" * 1000, 1000)])
    with pytest.raises(SourceUnavailable, match="far beyond the stated size"):
        fetch(make_source(url=address + "/numbers.csv"), store, wanted())


def test_when_nothing_serves_the_error_lists_every_place_and_what_to_do(store: Store, mirror: Path) -> None:
    (mirror / "numbers.csv").write_bytes(DATA[:4])
    with pytest.raises(SourceUnavailable) as error:
        fetch(make_source(), store, wanted(mirror))
    text = str(error.value)
    for part in (
        "store: not there",
        "mirror: numbers.csv is altered or cut short",
        "(4 bytes)",
        "package: none",
        NOWHERE,
    ):
        assert part in text
    assert "MODELKEEP_MIRROR" in text and "--data" in text
    assert not Path(store.uri, "sources").exists()  # nothing half-written is left


def test_the_users_own_file_takes_the_place_of_the_source_and_says_so(store: Store, tmp_path: Path) -> None:
    own = tmp_path / "mine.csv"
    own.write_bytes(b"a,b\n9,9\n")
    found = fetch(make_source(), store, wanted(data=str(own)))
    assert found.origin == "own file mine.csv" and found.ref.name == "mine.csv"
    assert "own file in place of numbers.csv" in found.differs


def test_an_own_file_that_is_not_there_is_named(store: Store) -> None:
    with pytest.raises(SourceUnavailable, match=r"no file absent\.csv"):
        fetch(make_source(), store, wanted(data="/nowhere/absent.csv"))


def problem_of(*sources: Source) -> Problem:
    return replace(load_problem("housing"), sources=sources)


def test_the_users_own_file_stands_in_for_the_first_source_only(store: Store, mirror: Path, tmp_path: Path) -> None:
    own = tmp_path / "mine.csv"
    own.write_bytes(b"a,b\n9,9\n")
    (mirror / "weather.csv").write_bytes(DATA)
    problem = problem_of(make_source(), make_source(name="weather.csv"))
    first, second = fetch_all(problem, store, wanted(mirror, data=str(own)))
    assert (first.own, first.origin) == (True, "own file mine.csv")
    assert (second.own, second.origin, second.ref.sha256) == (False, "mirror", DIGEST)


def test_an_optional_source_that_cannot_be_had_is_done_without_and_any_other_is_not(store: Store, mirror: Path) -> None:
    (mirror / "numbers.csv").write_bytes(DATA)
    missing = make_source(name="words.json", sha256="0" * 64)
    files = fetch_all(problem_of(make_source(), replace(missing, optional=True)), store, wanted(mirror))
    assert [file.source for file in files] == ["numbers.csv"]
    with pytest.raises(SourceUnavailable, match=r"words\.json"):
        fetch_all(problem_of(make_source(), missing), store, wanted(mirror))


def test_an_optional_source_does_not_go_with_the_users_own_file(store: Store, mirror: Path, tmp_path: Path) -> None:
    (mirror / "words.json").write_bytes(DATA)
    own = tmp_path / "mine.csv"
    own.write_bytes(b"a,b\n9,9\n")
    problem = problem_of(make_source(), make_source(name="words.json", optional=True))
    assert [file.source for file in fetch_all(problem, store, wanted(mirror, data=str(own)))] == ["numbers.csv"]


@pytest.mark.parametrize("name", ["my houses.csv", "häuser (1).csv", "a#b?c.csv"])
def test_an_own_file_may_have_any_name(store: Store, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"a,b\n9,9\n")
    found = fetch(make_source(), store, wanted(data=str(tmp_path / name)))
    assert store.read_bytes(found.ref) == b"a,b\n9,9\n" and found.ref.name.endswith(".csv")


@pytest.mark.parametrize("address", ["http://[bad/x.csv", "http://127.0.0.1:8799%zz/a"])
def test_what_is_not_an_address_is_said_so(store: Store, address: str) -> None:
    with pytest.raises(SourceUnavailable, match="not an address"):
        fetch(make_source(), store, wanted(data=address))


def test_a_file_with_a_folder_in_its_name_is_there_in_a_mirror_and_is_found_again_in_the_store(
    store: Store, mirror: Path
) -> None:
    (mirror / "first").mkdir()
    (mirror / "first" / "numbers.csv").write_bytes(DATA)
    source = make_source(name="first/numbers.csv")
    fetched = fetch(source, store, wanted(mirror))
    assert fetched.source == "first/numbers.csv" and fetched.origin == "mirror"
    assert fetch(source, store, wanted()).origin == "store"


def test_a_file_with_a_folder_in_its_name_can_be_downloaded(
    store: Store, serve: Callable[[Answers], tuple[str, list[str]]]
) -> None:
    url, _ = serve([(200, DATA, len(DATA))])
    source = make_source(name="first/numbers.csv", url=f"{url}/numbers.csv")
    assert fetch(source, store, wanted()).origin == source.url
    assert fetch(source, store, wanted()).origin == "store"
