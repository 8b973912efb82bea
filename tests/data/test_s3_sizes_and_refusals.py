"""Answers of an S3 store that a client might believe, as a short body that fits its headers, or wait for in vain."""

import time

import pytest

from faceattr.config import ImageLimitsConfig, StorageConfig
from faceattr.data.inputs.object_reader import ObjectReader
from faceattr.data.model_folders import fetch_folder
from faceattr.data.stores.open import probe_store
from faceattr.data.stores.s3 import S3Store
from faceattr.errors import ImageError, StorageError
from tests.fakes.proxy import Fault, serve_faults

DATA = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def running(s3):
    with serve_faults(s3.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def proxy(running):
    running.reset()
    return running


@pytest.fixture
def store(proxy, s3, request):
    name = request.node.name.partition("[")[0][-40:]
    return S3Store(s3.bucket, f"sizes/{name}", endpoint_url=proxy.url, deadline_s=20)


def read_listed(store, key):
    (listed,) = [entry for entry in store.list() if entry.key == key]
    reader = ObjectReader(store, ImageLimitsConfig())
    return reader.read(f"{store.uri}/{key}", num_bytes=listed.num_bytes, etag=listed.etag)


def test_a_short_body_that_agrees_with_its_headers_is_read_again(store, proxy):
    store.put("a.jpg", DATA)
    proxy.add(Fault("short", "GET", path="a.jpg", times=2))
    assert read_listed(store, "a.jpg") == DATA
    assert proxy.pending == []


def test_an_object_that_always_comes_short_is_that_images_row(store, proxy):
    store.put("a.jpg", DATA)
    proxy.add(Fault("short", "GET", path="a.jpg", times=100))
    found = read_listed(store, "a.jpg")
    assert isinstance(found, ImageError)
    assert (found.reason, found.detail) == (
        "unreadable",
        "the store gives 5,120 bytes of an object that the listing gives 10,240",
    )


def test_an_object_that_was_replaced_since_the_listing_is_taken_as_it_is(store):
    store.put("a.jpg", DATA)
    (listed,) = store.list()
    store.put("a.jpg", b"new")
    reader = ObjectReader(store, ImageLimitsConfig())
    assert reader.read(f"{store.uri}/a.jpg", num_bytes=listed.num_bytes, etag=listed.etag) == b"new"


def test_a_file_of_a_model_that_comes_short_is_fetched_again(store, proxy, tmp_path, monkeypatch):
    monkeypatch.setenv("FACEATTR_CACHE", str(tmp_path))
    store.put("model.bin", DATA)
    proxy.add(Fault("short", "GET", path="model.bin"))
    folder = fetch_folder(store.uri, StorageConfig(endpoint_url=proxy.url))
    assert (folder / "model.bin").read_bytes() == DATA


def refuse(proxy, method, *, status, code, message):
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    proxy.add(Fault("error", method, times=1000, status=status, body=body))


@pytest.mark.parametrize(
    ("verb", "status", "code", "message", "remedy"),
    [
        ("put", 400, "InvalidArgument", "x-amz-checksum-crc32", "AWS_REQUEST_CHECKSUM_CALCULATION=when_required"),
        ("put", 400, "InvalidArgument", "Invalid Argument", "AWS_REQUEST_CHECKSUM_CALCULATION=when_required"),
        ("put", 400, "XAmzContentSHA256Mismatch", "sha256", "AWS_REQUEST_CHECKSUM_CALCULATION=when_required"),
        ("put", 501, "NotImplemented", "aws-chunked trailer", "AWS_REQUEST_CHECKSUM_CALCULATION=when_required"),
        ("put", 411, "MissingContentLength", "", "AWS_REQUEST_CHECKSUM_CALCULATION=when_required"),
        ("put_if_absent", 400, "InvalidArgument", "If-None-Match is not known", "another store or a local folder"),
        ("put_if_absent", 501, "NotImplemented", "conditional requests", "another store or a local folder"),
        ("put_if_absent", 400, "InvalidRequest", "odd", "another store or a local folder"),
        ("get", 400, "InvalidArgument", "x-amz-checksum-mode", "AWS_RESPONSE_CHECKSUM_VALIDATION=when_required"),
        ("list", 400, "InvalidArgument", "list-type", "Check the endpoint"),
        ("delete", 405, "MethodNotAllowed", "", "MethodNotAllowed"),
        ("put", 413, "EntityTooLarge", "", "EntityTooLarge"),
    ],
)
def test_a_permanent_refusal_is_said_at_once_with_what_mends_it(store, proxy, verb, status, code, message, remedy):
    method = {"put": "PUT", "put_if_absent": "PUT", "get": "GET", "list": "GET", "delete": "DELETE"}[verb]
    refuse(proxy, method, status=status, code=code, message=message)
    calls = {
        "put": lambda: store.put("a", b"x"),
        "put_if_absent": lambda: store.put_if_absent("a", b"x"),
        "get": lambda: store.get("a"),
        "list": lambda: list(store.list()),
        "delete": lambda: store.delete("a"),
    }
    started = time.monotonic()
    with pytest.raises(StorageError) as error:
        calls[verb]()
    assert time.monotonic() - started < 5
    assert code in str(error.value)
    assert remedy in str(error.value)
    assert "\n" not in str(error.value)


def test_the_words_about_a_condition_do_not_send_the_user_to_checksums(store, proxy):
    refuse(proxy, "PUT", status=400, code="InvalidArgument", message="If-None-Match is not supported")
    with pytest.raises(StorageError) as error:
        probe_store(store)
    assert "CHECKSUM" not in str(error.value)


def test_a_remedy_that_is_taken_already_is_not_named(proxy, s3, monkeypatch):
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    store = S3Store(s3.bucket, "sizes/taken", endpoint_url=proxy.url, deadline_s=20)
    refuse(proxy, "PUT", status=400, code="InvalidArgument", message="Invalid Argument")
    with pytest.raises(StorageError) as error:
        store.put("a", b"x")
    assert "CHECKSUM" not in str(error.value)


@pytest.mark.parametrize(("status", "code"), [(409, "OperationAborted"), (400, "RequestTimeout"), (429, "SlowDown")])
def test_answers_that_ask_to_come_again_are_tried_again(store, proxy, status, code):
    proxy.add(Fault("error", "PUT", times=2, status=status, code=code))
    store.put("a", b"x")
    assert proxy.pending == []
