"""S3Store on a bad network: short faults pass unseen, an outage is an error, and neither is a fact about an object."""

import traceback

import pytest

from faceattr.data.stores.s3 import S3Store
from faceattr.data.stores.store import LargeObjectError, MissingObjectError
from faceattr.errors import StorageError
from tests.fakes.proxy import Fault, serve_faults

DATA = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def running(s3):
    with serve_faults(s3.endpoint_url) as proxy:
        yield proxy, S3Store(s3.bucket, "faults", endpoint_url=proxy.url, deadline_s=20)


@pytest.fixture
def proxy(running):
    running[0].reset()
    return running[0]


@pytest.fixture
def store(running, proxy):
    """Through the proxy, which asks for nothing by itself; keys are named after tests."""
    return running[1]


@pytest.fixture(scope="module")
def impatient(running, s3):
    return S3Store(s3.bucket, "faults", endpoint_url=running[0].url, deadline_s=0.3)


def test_to_refuse_a_large_object_takes_one_request_and_the_next_one_is_well(store, proxy):
    store.put("large.bin", DATA)
    with pytest.raises(LargeObjectError):
        store.get("large.bin", max_bytes=100)
    assert (proxy.count("GET", "large.bin"), proxy.count("HEAD", "large.bin")) == (1, 0)
    assert store.get("large.bin", max_bytes=len(DATA)) == DATA


def list_keys(store, prefix):
    return sorted(entry.key for entry in store.list(prefix))


@pytest.mark.parametrize(
    "fault",
    [
        Fault("error", "GET", times=3, status=503, code="SlowDown"),
        Fault("error", "GET", times=1, status=500, code="InternalError"),
        Fault("error", "GET", times=1, status=502, body=b"<html>bad gateway"),
        Fault("reset", "GET", times=3),
        Fault("cut", "GET", times=2),
        Fault("flip", "GET", times=2),
        Fault("delay", "GET", delay_s=0.1),
        # An answer of something in front of the store says nothing about the object.
        Fault("error", "GET", status=404, body=b"<html>no such backend"),
        Fault("error", "GET", status=404, body=b""),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}-{fault.times}",
)
def test_a_read_survives(store, proxy, fault):
    store.put("read.bin", DATA)
    proxy.add(fault)
    assert store.get("read.bin") == DATA
    assert proxy.pending == []


@pytest.mark.parametrize("kind", ["cut", "flip"])
def test_a_damaged_body_is_read_again(store, proxy, kind):
    store.put("body.bin", DATA)
    proxy.add(Fault(kind, "GET", path="body.bin"))
    assert store.get("body.bin") == DATA
    assert proxy.count("GET", "body.bin") == 2


@pytest.mark.parametrize("kind", ["error", "reset", "cut"])
def test_a_listing_survives(store, proxy, kind):
    store.put(f"listed-{kind}/a", b"")
    store.put(f"listed-{kind}/b", b"")
    proxy.add(Fault(kind, "GET", path="list-type=2", times=2))
    assert list_keys(store, f"listed-{kind}/") == [f"listed-{kind}/a", f"listed-{kind}/b"]
    assert proxy.pending == []


@pytest.mark.parametrize("body", [b"", b"<html>welcome", b"<html></html>"])
def test_an_answer_that_is_no_listing_is_not_taken_for_an_empty_one(store, proxy, body):
    store.put("garbled/a", b"")
    proxy.add(Fault("error", "GET", path="list-type=2", times=3, status=200, body=body))
    assert list_keys(store, "garbled/") == ["garbled/a"]
    assert proxy.pending == []


@pytest.mark.parametrize("method", ["put", "put_if_absent", "delete"])
@pytest.mark.parametrize("kind", ["error", "reset"])
def test_a_write_survives(store, proxy, method, kind):
    key = f"write-{method}-{kind}"
    proxy.add(Fault(kind, "DELETE" if method == "delete" else "PUT", path=key, times=3))
    if method == "delete":
        store.put(key, DATA)
        store.delete(key)
        assert list_keys(store, key) == []
    else:
        assert getattr(store, method)(key, DATA) in (None, True)
        assert store.get(key) == DATA
    assert proxy.pending == []


def test_a_lost_acknowledgement_looks_like_an_existing_object_and_the_object_is_whole(store, proxy):
    proxy.add(Fault("lost_ack", "PUT", path="shard"))
    assert store.put_if_absent("shard", DATA) is False
    assert store.get("shard") == DATA
    assert store.put_if_absent("shard", b"another") is False
    assert store.get("shard") == DATA


def test_a_conflict_with_a_racing_writer_is_tried_again(store, proxy):
    proxy.add(Fault("error", "PUT", path="raced", status=409, code="ConditionalRequestConflict"))
    assert store.put_if_absent("raced", DATA) is True
    assert store.get("raced") == DATA


def test_a_missing_object_is_missing_at_once(store, proxy):
    with pytest.raises(MissingObjectError):
        store.get("never-written")
    assert proxy.count("GET", "never-written") == 1


OPERATIONS = {
    "read": lambda store: store.get("gone.jpg"),
    "list": lambda store: list(store.list("gone.jpg")),
    "write": lambda store: store.put_if_absent("gone.jpg", DATA),
    "delete": lambda store: store.delete("gone.jpg"),
}


def check_is_outage(error, verb, s3):
    secrets = [s3.environment["AWS_SECRET_ACCESS_KEY"], s3.environment["AWS_ACCESS_KEY_ID"]]
    assert verb in str(error.value)
    assert "/faults/gone.jpg" in str(error.value)
    printed = "".join(traceback.format_exception(error.value))
    assert not any(secret in printed for secret in secrets)


@pytest.mark.parametrize("verb", OPERATIONS)
def test_an_outage_longer_than_the_deadline_is_an_error_of_the_store(impatient, proxy, s3, verb):
    proxy.outage = True
    with pytest.raises(StorageError, match="run the same command again") as error:
        OPERATIONS[verb](impatient)
    check_is_outage(error, verb, s3)


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (404, "NoSuchBucket"), (501, "NotImplemented")])
@pytest.mark.parametrize("verb", OPERATIONS)
def test_a_refusal_is_an_error_at_once(store, proxy, s3, verb, status, code):
    method = {"read": "GET", "list": "GET", "write": "PUT", "delete": "DELETE"}[verb]
    proxy.add(Fault("error", method, times=9, status=status, code=code))
    with pytest.raises(StorageError, match=f"refused to {verb} .*{code}") as error:
        OPERATIONS[verb](store)
    check_is_outage(error, verb, s3)
    assert proxy.count(method, "") <= 2  # boto3 itself may ask twice


def test_the_answer_of_a_proxy_is_no_proof_that_an_object_is_missing(impatient, proxy, s3):
    proxy.add(Fault("error", "GET", times=99, status=404, body=b"default backend - 404"))
    with pytest.raises(StorageError, match="could not read"):
        impatient.get("gone.jpg")


@pytest.mark.parametrize("verb", ["read", "list"])
def test_a_bucket_that_does_not_exist_is_no_missing_object(s3, verb):
    store = S3Store("no-such-bucket", "faults", endpoint_url=s3.endpoint_url, deadline_s=5)
    with pytest.raises(StorageError, match="NoSuchBucket") as error:
        OPERATIONS[verb](store)
    check_is_outage(error, verb, s3)


def test_a_wrong_secret_is_a_refusal(s3, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "0123456789-wrong-secret")
    store = S3Store(s3.bucket, "faults", endpoint_url=s3.endpoint_url, deadline_s=5)
    with pytest.raises(StorageError, match="SignatureDoesNotMatch") as error:
        store.get("gone.jpg")
    assert "0123456789-wrong-secret" not in "".join(traceback.format_exception(error.value))


def test_no_credentials_at_all(s3, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    store = S3Store(s3.bucket, "faults", endpoint_url=s3.endpoint_url, deadline_s=5)
    with pytest.raises(StorageError, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        store.get("gone.jpg")
