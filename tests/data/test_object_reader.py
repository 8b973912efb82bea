"""A refusal of one image is its row; a refusal of all of them is an outage, whatever came before."""

import pytest

from faceattr.config import ImageLimitsConfig
from faceattr.data.inputs.object_reader import ObjectReader
from faceattr.data.stores.s3 import S3Store
from faceattr.data.stores.store import RefusedObjectError
from faceattr.errors import ImageError, StorageError
from tests.fakes.proxy import Fault, serve_faults
from tests.fakes.stores import HookedStore, MemoryStore


def refuse(denied):
    """A store whose reads of the `denied` keys are refused; None refuses all."""
    inner = MemoryStore()
    for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg"):
        inner.put(name, name.encode())

    def hook(when, operation, key):
        if operation == "get" and (denied is None or key in denied):
            raise RefusedObjectError(f"the store refused to read {key}: AccessDenied", detail="AccessDenied: no")

    return HookedStore(inner, hook)


def uri(key):
    return f"memory/{key}"


def test_one_refused_image_among_others_is_unreadable_in_the_words_of_the_store():
    reader = ObjectReader(refuse({"a.jpg"}))
    found = reader.read(uri("a.jpg"), [uri("a.jpg"), uri("b.jpg")])
    assert isinstance(found, ImageError)
    assert (found.reason, found.detail) == ("unreadable", "AccessDenied: no")
    assert reader.read(uri("b.jpg")) == b"b.jpg"
    assert isinstance(reader.read(uri("a.jpg")), ImageError)


def test_an_object_that_is_too_large_is_an_error_and_a_witness_all_the_same():
    reader = ObjectReader(refuse({"a.jpg"}), ImageLimitsConfig(max_bytes=4))
    found = reader.read(uri("b.jpg"))
    assert isinstance(found, ImageError)
    assert (found.reason, found.detail) == ("too_large", "5 bytes, over the limit of 4 (--decode.max-bytes)")
    refused = reader.read(uri("a.jpg"), [uri("b.jpg")])
    assert isinstance(refused, ImageError)
    assert refused.reason == "unreadable"


def test_without_other_keys_at_hand_the_listing_gives_the_witness():
    reader = ObjectReader(refuse({"a.jpg", "b.jpg", "c.jpg"}))
    assert isinstance(reader.read(uri("a.jpg")), ImageError)


def test_a_store_that_refuses_all_rejects_nothing():
    with pytest.raises(StorageError, match=r"AccessDenied: no.* no image is rejected"):
        ObjectReader(refuse(None)).read(uri("a.jpg"), [uri("b.jpg"), uri("c.jpg")])


def test_rights_that_are_lost_after_reads_that_went_well_reject_nothing():
    denied = {"nothing"}
    reader = ObjectReader(refuse(denied))
    assert reader.read(uri("b.jpg")) == b"b.jpg"
    denied.update({"a.jpg", "b.jpg", "c.jpg", "d.jpg"})
    with pytest.raises(StorageError, match="no image is rejected"):
        reader.read(uri("a.jpg"), [uri("b.jpg")])


def test_an_image_that_can_be_read_after_all_is_read():
    denied = {"a.jpg"}
    inner = refuse(denied)

    def rights_come_back(when, operation, key):
        if key == "b.jpg" and when == "after":
            denied.clear()

    assert ObjectReader(HookedStore(inner, rights_come_back)).read(uri("a.jpg"), [uri("b.jpg")]) == b"a.jpg"


def test_a_large_folder_that_is_refused_as_a_whole_does_not_stop_the_rest():
    inner = MemoryStore()
    for number in range(5_000):
        inner.put(f"private/{number:04}.jpg", b"p")
    inner.put("public/1.jpg", b"1")

    class Sorted(HookedStore):
        def list(self, prefix=""):
            yield from sorted(inner.list(prefix), key=lambda entry: entry.key)

    def hook(when, operation, key):
        if operation == "get" and key.startswith("private/"):
            raise RefusedObjectError("refused", detail="AccessDenied")

    block = [uri(f"private/{number:04}.jpg") for number in range(256)]
    assert isinstance(ObjectReader(Sorted(inner, hook)).read(block[7], block), ImageError)


@pytest.fixture(scope="module")
def proxied(s3):
    with serve_faults(s3.endpoint_url) as proxy:
        store = S3Store(s3.bucket, "refused", endpoint_url=proxy.url, deadline_s=20)
        for name in ("archived.jpg", "fine.jpg", "other.jpg"):
            store.put(name, name.encode())
        yield proxy, store


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "InvalidObjectState"),
        (403, "AccessDenied"),
        (400, "KeyTooLongError"),
        (400, "InvalidRequest"),  # encrypted with a key that the caller would have to send
        (400, "KMS.DisabledException"),
        (403, "Forbidden"),
    ],
)
def test_s3_refuses_one_object(proxied, status, code):
    proxy, store = proxied
    proxy.reset()
    proxy.add(Fault("error", "GET", path="archived.jpg", times=99, status=status, code=code))
    reader = ObjectReader(store)
    found = reader.read(f"{store.uri}/archived.jpg", [f"{store.uri}/fine.jpg"])
    assert isinstance(found, ImageError)
    assert (found.reason, found.detail) == ("unreadable", f"{code}: made up")
    assert proxy.count("GET", "archived.jpg") <= 4


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "AccessDenied"),
        (400, "ExpiredToken"),
        (403, "InvalidAccessKeyId"),
        (403, "SignatureDoesNotMatch"),
        (403, "RequestTimeTooSkewed"),
        (400, "InvalidRequest"),
    ],
)
def test_s3_refuses_everything(proxied, status, code):
    proxy, store = proxied
    proxy.reset()
    reader = ObjectReader(store)
    assert reader.read(f"{store.uri}/fine.jpg") == b"fine.jpg"
    proxy.add(Fault("error", "GET", times=999, status=status, code=code))
    with pytest.raises(StorageError, match=code):
        reader.read(f"{store.uri}/archived.jpg", [f"{store.uri}/fine.jpg"])


@pytest.mark.parametrize("code", ["ExpiredToken", "SignatureDoesNotMatch", "InvalidAccessKeyId"])
def test_credentials_that_are_refused_once_are_no_fact_about_an_image(proxied, code):
    proxy, store = proxied
    proxy.reset()
    proxy.add(Fault("error", "GET", path="archived.jpg", times=99, status=403, code=code))
    with pytest.raises(StorageError, match=code) as error:
        ObjectReader(store).read(f"{store.uri}/archived.jpg", [f"{store.uri}/fine.jpg"])
    assert not isinstance(error.value, RefusedObjectError)


@pytest.mark.parametrize(("status", "code"), [(400, "RequestTimeout"), (429, "TooManyRequests"), (400, "Throttling")])
def test_an_answer_that_asks_to_come_again_is_heeded(proxied, status, code):
    proxy, store = proxied
    proxy.reset()
    proxy.add(Fault("error", "GET", path="archived.jpg", times=3, status=status, code=code))
    assert ObjectReader(store).read(f"{store.uri}/archived.jpg") == b"archived.jpg"
