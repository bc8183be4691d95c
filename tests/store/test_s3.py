"""What can go wrong between here and S3: servers that are busy, connections that break, doors that are shut."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from store import open_store
from store.artifacts import Store, sha256_of
from store.errors import ArtifactMissing, InvalidKey, StoreUnavailable, WriteConflict
from store.registry import Registry
from store.s3 import S3Store
from tests.store.faulty_proxy import Fault, FaultyProxy

MiB = 1 << 20
PART = "partNumber="


@pytest.fixture
def store(bucket: str, proxy: FaultyProxy) -> S3Store:
    return S3Store(f"s3://{bucket}/prefix")


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.write_bytes(os.urandom(MiB) * 20)
    return path


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", times=2, status=503, code="SlowDown"),
        Fault("status", times=2, status=500, code="InternalError"),
        Fault("cut_request"),
        Fault("cut_answer"),
        Fault("lose_answer"),
        Fault("delay", seconds=0.2),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
def test_passing_trouble_is_survived(store: S3Store, proxy: FaultyProxy, fault: Fault) -> None:
    for method in ("PUT", "GET"):
        proxy.faults = [Fault(fault.kind, fault.times, method, status=fault.status, code=fault.code)]
        ref = store.put_bytes(f"a/{method}", os.urandom(100_000), kind="npy")
        assert sha256_of(store.read_bytes(ref)) == ref.sha256
        assert proxy.met.count(fault.kind) >= fault.times
        proxy.met.clear()


@pytest.mark.parametrize("kind", ["status", "cut_request", "lose_answer"])
def test_trouble_with_a_part_of_a_large_file_is_survived(
    store: S3Store, proxy: FaultyProxy, large: Path, kind: str
) -> None:
    proxy.faults = [Fault(kind, method="PUT", part=PART)]
    ref = store.put_file("a/large", large, kind="npy")
    proxy.faults = [Fault("cut_answer", times=2, method="GET")]
    assert store.local_path(ref).read_bytes() == large.read_bytes()
    assert set(proxy.met) == {kind, "cut_answer"}


def test_a_joined_file_whose_answer_was_lost_is_recognised(store: S3Store, proxy: FaultyProxy, large: Path) -> None:
    proxy.faults = [Fault("lose_answer", method="POST", part="uploadId=")]
    ref = store.put_file("a/large", large, kind="npy")
    assert proxy.met == ["lose_answer"]
    assert store.is_whole(ref)


def test_an_upload_that_fails_for_good_leaves_no_parts_and_no_artifact(
    store: S3Store, proxy: FaultyProxy, large: Path
) -> None:
    proxy.faults = [Fault("status", times=1000, method="PUT", part="partNumber=2", status=403, code="AccessDenied")]
    with pytest.raises(StoreUnavailable, match=r"may not do this in the bucket[\s\S]*s3:PutObject"):
        store.put_file("a/large", large, kind="npy")
    assert list(store.list_unfinished()) == []
    assert store.find("a/large", kind="npy") is None


def test_a_server_that_goes_away_in_the_middle_of_an_upload_is_said_plainly(
    bucket: str, proxy: FaultyProxy, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    store = S3Store(f"s3://{bucket}/prefix")
    proxy.faults = [
        Fault("cut_request", times=1000, method="P", part="uploadId="),
        Fault("cut_request", 1000, "DELETE"),
    ]
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        store.put_file("a/large", large, kind="npy")
    proxy.faults = []
    assert store.find("a/large", kind="npy") is None
    (left,) = store.list_unfinished()  # nobody was there to hear that it was given up; gc finds it
    store.delete_unfinished(left.key)
    store.delete_unfinished(left.key)
    assert list(store.list_unfinished()) == []
    assert store.is_whole(store.put_file("a/large", large, kind="npy"))


UPLOAD = """
    import sys
    from pathlib import Path
    from store import open_store

    def progress(done, total):
        print("a part", flush=True)
        sys.stdin.readline()

    open_store(sys.argv[1]).put_file("a/large", Path(sys.argv[2]), kind="npy", progress=progress)
"""


def test_an_upload_that_is_killed_half_way_is_never_seen(
    store: S3Store, large: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    writer = start(UPLOAD, store.uri, large)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "a part\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert store.find("a/large", kind="npy") is None
    assert len(list(store.list_unfinished())) == 1
    assert store.is_whole(store.put_file("a/large", large, kind="npy"))


@pytest.mark.parametrize("expected", ["new", "changed"])
def test_a_document_whose_answer_was_lost_is_not_taken_for_a_conflict(
    store: S3Store, proxy: FaultyProxy, expected: str
) -> None:
    version = None if expected == "new" else store.write_document("a", b"1", expected=None).version
    proxy.faults = [Fault("lose_answer", method="PUT")]
    document = store.write_document("a", b"2", expected=version)
    assert proxy.met == ["lose_answer"]
    assert store.read_document("a") == document
    with pytest.raises(WriteConflict):
        store.write_document("a", b"3", expected=version)


def test_a_promotion_whose_answer_was_lost_and_that_others_built_on_is_not_repeated(
    bucket: str, store: S3Store, proxy: FaultyProxy, moto_endpoint: str, use_endpoint: Callable[[str], None]
) -> None:
    def promote(store: Store, number: int) -> None:
        manifest = store.put_bytes(f"runs/a/{number}/manifest.json", b"{}", kind="json")
        who = {"actor": "ada", "reason": "better", "run": str(number)}
        Registry(store).register("a", manifest=manifest, metrics={}, **who)
        Registry(store).promote("a", number, expected=number - 1 or None, **who)

    for _ in range(2):  # it is connected through the proxy, also as one that has been answered; the other is not
        assert store.read_document("a") is None
    use_endpoint(moto_endpoint)
    other = S3Store(store.uri)
    passed = Fault("delay", method="PUT", part="models/")  # the registration goes through
    lost = Fault("lose_answer", method="PUT", part="models/", before=lambda: promote(other, 2))
    proxy.faults = [passed, lost]
    promote(store, 1)
    assert proxy.met == ["delay", "lose_answer"]
    changes = [(entry.action, entry.version) for entry in Registry(other).audit("a")]
    assert changes == [("register", 1), ("promote", 1), ("register", 2), ("promote", 2)]


def test_colliding_writes_are_tried_again(store: S3Store, proxy: FaultyProxy) -> None:
    proxy.faults = [Fault("status", times=2, method="PUT", status=409, code="ConditionalRequestConflict")]
    document = store.write_document("a", b"1", expected=None)
    assert proxy.met == ["status", "status"]
    assert store.read_document("a") == document


@pytest.mark.parametrize(
    ("code", "status", "text"),
    [
        ("NoSuchBucket", 404, "The bucket does not exist"),
        ("InvalidAccessKeyId", 403, "does not accept these credentials"),
        ("SignatureDoesNotMatch", 403, "does not accept these credentials"),
        ("AccessDenied", 403, "may not do this in the bucket"),
        ("RequestTimeTooSkewed", 403, "clock differs too much"),
        ("SlowDown", 503, "overloaded or out of order"),
        ("QuotaExceeded", 403, "The bucket is full"),
        ("NotImplemented", 501, "cannot do conditional writes"),
        ("Unheard", 418, "refused the request"),
    ],
)
def test_each_refusal_is_said_plainly_with_what_to_do(
    bucket: str, proxy: FaultyProxy, code: str, status: int, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    store = open_store(f"s3://{bucket}/prefix")
    proxy.faults = [Fault("status", times=1000, status=status, code=code)]
    for attempt in (
        lambda: store.put_bytes("a", b"1", kind="json"),
        lambda: store.read_document("a"),
        lambda: store.write_document("a", b"1", expected=None),
        lambda: list(store.list("a")),
    ):
        with pytest.raises(StoreUnavailable, match=text) as caught:
            attempt()
        assert caught.value.next_step
        assert "tests-secret" not in str(caught.value)


def test_a_bucket_that_is_not_there_is_said_plainly(bucket: str) -> None:
    store = open_store(f"s3://{bucket}-no/prefix")
    with pytest.raises(StoreUnavailable, match="The bucket does not exist"):
        store.read_document("a")
    with pytest.raises(StoreUnavailable, match="The bucket does not exist"):
        store.put_bytes("a", b"1", kind="json")


def test_missing_credentials_are_said_plainly(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreUnavailable, match=r"no credentials[\s\S]*AWS_PROFILE"):
        open_store(f"s3://{bucket}").read_document("a")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StoreUnavailable, match="no credentials"):
        open_store(f"s3://{bucket}").read_document("a")


def test_an_endpoint_that_nobody_serves_is_said_plainly_without_its_password(
    use_endpoint: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_endpoint("http://ada:secret-word@127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(StoreUnavailable, match=r"cannot be reached[\s\S]*AWS_ENDPOINT_URL_S3") as caught:
        open_store("s3://bucket/prefix").read_document("a")
    assert "secret-word" not in str(caught.value)


def test_an_endpoint_that_is_no_address_is_said_plainly(use_endpoint: Callable[[str], None]) -> None:
    use_endpoint("localhost:9000")
    with pytest.raises(StoreUnavailable, match="The endpoint is not an address"):
        open_store("s3://bucket/prefix").read_document("a")


@pytest.mark.parametrize("uri", ["s3://", "s3:///prefix", "s3://bucket/a/../b", "s3://bucket//a"])
def test_an_address_that_is_none_is_refused(uri: str) -> None:
    with pytest.raises(InvalidKey):
        open_store(uri)


def test_a_download_is_kept_verified_and_made_again_when_damaged(store: S3Store, proxy: FaultyProxy) -> None:
    ref = store.put_bytes("runs/a/model.keras", b"weights", kind="keras")
    path = store.local_path(ref)
    asked = len(proxy.requests)
    assert store.local_path(ref) == path
    assert len(proxy.requests) == asked
    path.chmod(0o644)
    path.write_bytes(b"WEIGHTS")
    assert store.local_path(ref).read_bytes() == b"weights"
    store.delete("runs/a/model.keras")
    assert store.local_path(ref).read_bytes() == b"weights"
    path.unlink()
    with pytest.raises(ArtifactMissing):
        store.local_path(ref)
    assert [file.name for file in path.parent.iterdir()] == []


def test_downloads_that_nobody_asked_for_in_a_month_are_removed(store: S3Store) -> None:
    old = store.local_path(store.put_bytes("old", b"old", kind="text"))
    os.utime(old, (0, 0))
    new = store.local_path(store.put_bytes("new", b"new", kind="text"))
    assert new.exists()
    assert not old.parent.exists()


def test_whether_an_artifact_is_whole_is_asked_without_downloading_or_listing(
    store: S3Store, proxy: FaultyProxy
) -> None:
    ref = store.put_bytes("a", b"1", kind="json")
    proxy.requests.clear()
    assert store.is_whole(ref)
    assert [request.split()[0] for request in proxy.requests] == ["HEAD"]
