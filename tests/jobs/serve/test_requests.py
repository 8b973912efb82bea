"""What a request holds, what it may hold, and who may send it: without a server."""

import asyncio
import dataclasses
import hashlib
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from urllib3.filepost import encode_multipart_formdata

from faceattr.config.serving.requests import RequestLimitsConfig
from faceattr.config.serving.serve import ServeConfig
from faceattr.errors import ConfigError
from faceattr.jobs.serve.arguments import read_arguments
from faceattr.jobs.serve.http.address import check_free, check_host
from faceattr.jobs.serve.http.admission import Admission
from faceattr.jobs.serve.http.bearer import TOKEN_VARIABLE, Bearer, read_token
from faceattr.jobs.serve.http.requests import (
    RefusedRequestError,
    Upload,
    read_body,
    read_length,
    read_query,
    split_uploads,
)
from faceattr.jobs.serve.layout import plan_replicas

LIMITS = RequestLimitsConfig(max_bytes=100, max_images=3, max_queue=5, max_queue_bytes=250)
TOKEN = "0123456789abcdef-secret"


def refused(call, *arguments) -> tuple[int, str]:
    with pytest.raises(RefusedRequestError) as caught:
        call(*arguments)
    return caught.value.status, str(caught.value)


@pytest.mark.parametrize("content_type", ["image/jpeg", "Image/PNG; x=y", "application/octet-stream"])
def test_a_body_that_is_one_image(content_type):
    assert split_uploads(content_type, b"--\r\n\0", LIMITS) == [Upload("-", b"--\r\n\0")]
    assert refused(split_uploads, content_type, b"", LIMITS) == (400, "the body is empty; expected an image")


# Without quotation marks and backslashes, which writers escape in three different ways.
NAMES = st.text("ab/.;= \u00e9", min_size=1, max_size=8).map(lambda text: f"a{text}z")


@given(st.lists(st.tuples(NAMES, st.binary(max_size=40)), min_size=1, max_size=3))
@settings(max_examples=50, deadline=None)
def test_a_form_gives_back_the_files_that_urllib3_wrote(files):
    body, content_type = encode_multipart_formdata([("image", each) for each in files])
    assert split_uploads(content_type, body, LIMITS) == [Upload(name, data) for name, data in files]


def test_bytes_that_look_like_a_delimiter_stay_in_their_part():
    data = b"\r\n--other\r\n\r\n--edg\r\nedge--\r\n-edge"
    header = b"--edge\r\nContent-Disposition: form-data; name=a; filename*=utf-8''%C3%A9.jpg\r\n\r\n"
    found = split_uploads('multipart/form-data; boundary="edge"', header + data + b"\r\n--edge--\r\n", LIMITS)
    assert found == [Upload("\u00e9.jpg", data)]


PART = b'Content-Disposition: form-data; name="a"; filename="a.jpg"\r\n\r\nxx'


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "cut off"),
        (b"--e\r\n" + PART, 400, "cut off"),
        (b"--e\r\n" + PART + b"\r\n--e\r\n" + PART, 400, "cut off"),
        (b"hello--e\r\n" + PART + b"\r\n--e--", 400, "cut off"),
        (b"--e--\r\n", 400, "no part"),
        (b"--ex\r\n" + PART + b"\r\n--e--", 400, "no line break"),
        (b"--e\r\nno header\r\n--e--", 400, "empty line"),
        (b'--e\r\nContent-Disposition: form-data; name="b"\r\n\r\nxx\r\n--e--', 400, "'b' has no file name"),
        (b"--e\r\nX: " + b"x" * 9_000 + b"\r\n\r\nxx\r\n--e--", 400, "empty line"),
        ((b"--e\r\n" + PART + b"\r\n") * 4 + b"--e--", 413, "4 images, more than 3 (--limits.max-images)"),
    ],
)
def test_a_damaged_form_is_refused(body, status, words):
    found, text = refused(split_uploads, "multipart/form-data; boundary=e", body, LIMITS)
    assert found == status
    assert words in text


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("", 415),
        ("text/plain", 415),
        ("application/json", 415),
        ("multipart/mixed; boundary=e", 415),
        ("multipart/form-data", 400),
        ("multipart/form-data; boundary=" + "e" * 71, 400),
    ],
)
def test_another_type_is_refused(content_type, status):
    assert refused(split_uploads, content_type, b"x", LIMITS)[0] == status


def test_lengths():
    assert read_length({"content-length": "100"}, LIMITS) == 100
    assert read_length({}, LIMITS) == 100  # may be as long as is allowed
    assert refused(read_length, {"content-length": "101"}, LIMITS)[0] == 413
    assert refused(read_length, {"content-length": "-1"}, LIMITS)[0] == 400
    assert refused(read_length, {"content-encoding": "gzip"}, LIMITS)[0] == 415

    async def chunks(*lengths):
        for length in lengths:
            yield bytes(length)

    assert asyncio.run(read_body(chunks(60, 40), LIMITS)) == bytes(100)
    with pytest.raises(RefusedRequestError) as caught:
        asyncio.run(read_body(chunks(60, 41, 10**6), LIMITS))
    assert caught.value.status == 413


def test_the_query():
    assert read_query({}) is False
    assert read_query({"confidence": "true"}) is True
    assert refused(read_query, {"confidence": "1"})[0] == 400
    assert "'Confidence'" in refused(read_query, {"Confidence": "true"})[1]


def test_the_queue_counts_images_and_bytes_and_gives_them_back():
    queue = Admission(LIMITS)
    with queue.admit(100) as place:
        place.take(images=3)
        assert (queue.images, queue.num_bytes) == (4, 100)
        with queue.admit(100):
            # Five images: not another one.
            with pytest.raises(RefusedRequestError) as caught, queue.admit(1):
                pass
            assert (caught.value.status, caught.value.headers) == (429, {"Retry-After": "1"})
            assert "5 images are waiting, and 5 may (--limits.max-queue)" in str(caught.value)
        assert (queue.images, queue.num_bytes) == (4, 100)
        status, _ = refused(lambda: place.take(images=2))
        assert (status, queue.images) == (429, 4)
    assert (queue.images, queue.num_bytes) == (0, 0)
    with queue.admit(200), pytest.raises(RefusedRequestError, match=r"--limits\.max-queue-bytes"), queue.admit(51):
        pass
    assert (queue.images, queue.num_bytes) == (0, 0)


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ("", 401),
        (f"Bearer {TOKEN}", None),
        (f"bearer  {TOKEN}", None),
        (f"Basic {TOKEN}", 401),
        (TOKEN, 401),
        (f"Bearer {TOKEN}x", 401),
        (f"Bearer {TOKEN[:-1]}", 401),
        ("Bearer \udcff\u00e9", 401),
    ],
)
def test_the_token(given, status):
    bearer = Bearer.of(TOKEN)
    if status is None:
        bearer.check({"authorization": given})
        return
    assert refused(bearer.check, {"authorization": given})[0] == status


def test_the_token_itself_is_not_kept():
    bearer = Bearer.of(TOKEN)
    assert bearer.digest == hashlib.sha256(TOKEN.encode()).digest()
    assert TOKEN not in repr(bearer)
    assert str(bearer.digest) not in repr(bearer)
    assert [field.name for field in dataclasses.fields(bearer)] == ["digest"]


def test_without_a_token_a_server_has_no_name():
    bearer = Bearer.of(None)
    for host in ("127.0.0.1:8000", "localhost:8000", "[::1]:8000"):
        bearer.check({"host": host})
    for host in ("rebound.example:8000", "", "localhost.rebound.example"):
        assert refused(bearer.check, {"host": host})[0] == 403


def test_a_token_comes_from_the_environment_and_is_not_repeated(monkeypatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    assert read_token() is None
    for host in ("127.0.0.1", "localhost", "::1"):
        check_host(host, None)
    with pytest.raises(ConfigError, match=f"needs a token.*{TOKEN_VARIABLE}"):
        check_host("0.0.0.0", None)
    check_host("0.0.0.0", TOKEN)
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    assert read_token() == TOKEN
    for bad in ("short", "", "with a space in its middle", "with-an-\u00e9-in-its-middle"):
        monkeypatch.setenv(TOKEN_VARIABLE, bad)
        with pytest.raises(ConfigError, match=f"{TOKEN_VARIABLE}.*found {len(bad)} characters") as caught:
            read_token()
        assert not bad or bad not in str(caught.value)


def test_an_address_that_is_taken():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        other.listen()
        with pytest.raises(ConfigError, match=rf"--port {port}: another program listens there"):
            check_free("127.0.0.1", port)
    check_free("127.0.0.1", port)
    with pytest.raises(ConfigError, match=r"--host 192\.0\.2\.1 "):  # an address of no machine (RFC 5737)
        check_free("192.0.2.1", port)


GIB = 2**30


@pytest.mark.parametrize(
    ("flags", "cluster", "expected"),
    [
        # replicas, GPUs, CPUs, batch size
        ({}, {"CPU": 8, "memory": 100 * GIB}, (8, 0, 1, 16)),
        ({}, {"CPU": 8, "memory": 10 * GIB}, (3, 0, 1, 16)),  # 3 GiB each
        ({"threads_per_replica": 3}, {"CPU": 8, "memory": 100 * GIB}, (2, 0, 3, 16)),
        ({"replicas": 1, "batch_size": 4}, {"CPU": 8, "memory": 1 * GIB}, (1, 0, 1, 4)),
        ({}, {"CPU": 8, "GPU": 2}, (2, 1, 0, 64)),
        ({"gpus_per_replica": 0.25}, {"GPU": 2}, (8, 0.25, 0, 64)),
        ({"gpus_per_replica": 0.1}, {"GPU": 1}, (10, 0.1, 0, 64)),
        ({"gpus_per_replica": 0.5, "replicas": 3}, {"GPU": 2}, (3, 0.5, 0, 64)),
        ({"gpus_per_replica": 0}, {"CPU": 2, "GPU": 2, "memory": 100 * GIB}, (2, 0, 1, 16)),
    ],
)
def test_how_many_replicas(flags, cluster, expected):
    found = plan_replicas(ServeConfig(model="m", **flags), cluster)
    assert (found.replicas, found.gpus, found.cpus, found.batch_size) == expected


@pytest.mark.parametrize(
    ("flags", "cluster", "words"),
    [
        ({"replicas": 3}, {"CPU": 2}, "--replicas 3 with --threads-per-replica 1: the cluster has 2 CPU cores"),
        ({"replicas": 5, "gpus_per_replica": 0.5}, {"GPU": 2}, "room for 4"),
        ({"gpus_per_replica": 1}, {"CPU": 2}, "use --gpus-per-replica 0 for CPUs"),
    ],
)
def test_replicas_that_do_not_fit(flags, cluster, words):
    with pytest.raises(ConfigError, match=words):
        plan_replicas(ServeConfig(model="m", **flags), cluster)


def test_settings_out_of_a_serve_config_file():
    found = read_arguments(ServeConfig, {"model": "m", "batch_wait_ms": 2, "limits": {"max_images": 4}})
    assert found == ServeConfig(model="m", batch_wait_ms=2, limits=RequestLimitsConfig(max_images=4))
    for written, words in [
        ({"model": "m", "replica": 2}, "unknown key 'replica'; did you mean 'replicas'?"),
        ({"model": "m", "limits": {"max_image": 2}}, "args.limits: unknown key 'max_image'"),
        ({"model": "m", "limits": 3}, "'limits' is a group"),
        ({"model": "m", "replicas": "2"}, "'replicas'"),
        ({"model": "m", "replicas": True}, "'replicas'"),
        ({"model": "m", "precision": "float8"}, "'precision'"),
        ({"replicas": 2}, "model"),
        ({"model": "m", "batch_size": 0}, "--batch-size: expected 1 or more"),
    ]:
        with pytest.raises(ConfigError, match=words.replace("?", r"\?")):
            read_arguments(ServeConfig, written)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"max_queue": 63}, "--limits.max-queue: expected at least --limits.max-images"),
        ({"max_queue_bytes": 1}, "--limits.max-queue-bytes: expected at least --limits.max-bytes"),
        ({"timeout_s": 0}, "--limits.timeout-s"),
    ],
)
def test_limits_that_contradict_each_other(flags, words):
    with pytest.raises(ConfigError, match=words):
        RequestLimitsConfig(**flags)
