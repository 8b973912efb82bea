"""One contract, three stores: a local folder, a real S3 server, and the tests' own store in memory."""

import threading
import time
import tracemalloc
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from faceattr.config import StorageConfig
from faceattr.data.stores.arrow import ArrowStore
from faceattr.data.stores.local import LocalStore
from faceattr.data.stores.open import open_store
from faceattr.data.stores.s3 import S3Store
from faceattr.data.stores.store import LargeObjectError, MissingObjectError
from faceattr.errors import ConfigError, StorageError
from tests.fakes.stores import MemoryStore

ODD_KEYS = [
    "with space/two  spaces.jpg",
    "unicode/käse-日本-🙂.jpg",
    "unicode/combining-e\u0301.jpg",
    "hash#tag.jpg",
    "question?mark=1&b=2.jpg",
    "percent%41.jpg",
    "percent%2Fslash.jpg",
    "plus+sign.jpg",
    "quote'\"<>&.jpg",
    "dots...jpg",
    "no-extension",
    "deep/er/and/deeper/still.jpg",
]


@pytest.fixture(params=["local", "s3", "memory"])
def store(request, tmp_path):
    match request.param:
        case "local":
            return open_store(str(tmp_path / "run"))
        case "s3":
            return open_store(request.getfixturevalue("s3_uri"))
        case _:
            return MemoryStore()


def list_keys(store, prefix=""):
    return sorted(entry.key for entry in store.list(prefix))


def test_what_was_put_is_got_and_listed(store):
    assert store.put_if_absent("a/b.bin", b"12345") is True
    assert store.get("a/b.bin") == b"12345"
    (entry,) = store.list()
    assert (entry.key, entry.num_bytes) == ("a/b.bin", 5)


def test_an_empty_object_is_an_object(store):
    assert store.put_if_absent("empty", b"") is True
    assert store.put_if_absent("empty", b"late") is False
    assert store.get("empty") == b""
    assert list_keys(store) == ["empty"]


def test_an_object_is_read_up_to_the_room_that_the_reader_has(store):
    store.put("ten", b"0123456789")
    assert store.get("ten", max_bytes=10) == b"0123456789"
    with pytest.raises(LargeObjectError) as error:
        store.get("ten", max_bytes=9)
    assert error.value.num_bytes == 10
    with pytest.raises(MissingObjectError):
        store.get("none", max_bytes=9)


@pytest.mark.parametrize("kind", ["local", "s3", "pyarrow"])
def test_of_an_object_that_is_too_large_next_to_nothing_is_read(kind, tmp_path, request):
    """Of 48 MiB, 4 are the most that may ever be in memory."""
    if kind == "local":
        store = open_store(str(tmp_path))
        with (tmp_path / "huge").open("wb") as file:
            file.truncate(48 * 2**20)
    else:
        uri = request.getfixturevalue("s3_uri")
        open_store(uri).put("huge", bytes(48 * 2**20))
        store = open_store(uri) if kind == "s3" else ArrowStore(uri)
    tracemalloc.start()
    with pytest.raises(LargeObjectError) as error:
        store.get("huge", max_bytes=1_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert error.value.num_bytes == 48 * 2**20
    assert peak < 4 * 2**20


def test_of_eight_racing_writers_one_wins_and_its_bytes_stay(store):
    races = 1 if isinstance(store, S3Store) else 20  # SeaweedFS lets those who wait for a key look once a second
    for race in range(races):
        start = threading.Barrier(8)

        def write(number, start=start, race=race):
            start.wait()
            return store.put_if_absent(f"race/{race}", bytes([number]) * 5000)

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(write, range(8)))
        assert won.count(True) == 1
        assert store.get(f"race/{race}") == bytes([won.index(True)]) * 5000
    assert list_keys(store) == sorted(f"race/{race}" for race in range(races))


@pytest.mark.parametrize("key", ["nothing", "no/such/folder", "folder", "file/below"])
def test_a_missing_key(store, key):
    store.put("folder/file", b"")
    store.put("file", b"")
    with pytest.raises(MissingObjectError):
        store.get(key)


def test_put_replaces(store):
    store.put("report.html", b"old and longer")
    store.put("report.html", b"new")
    assert store.get("report.html") == b"new"
    assert list_keys(store) == ["report.html"]


def test_the_etag_changes_with_the_content(store):
    etags = []
    for content in (b"one", b"two!"):
        store.put("report.html", content)
        etags += [entry.etag for entry in store.list("report.html")]
    assert len(set(etags)) == 2


def test_delete_twice(store):
    store.put("_lease/1", b"")
    store.delete("_lease/1")
    store.delete("_lease/1")
    store.delete("_lease/never/was")
    assert list_keys(store) == []


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("", ["_manifest-v2.json", "_manifest.json", "labels-v2/s1", "labels/s1", "labels/sub/s2", "lab"]),
        ("_manifest", ["_manifest-v2.json", "_manifest.json"]),
        ("_manifest.", ["_manifest.json"]),
        ("labels", ["labels-v2/s1", "labels/s1", "labels/sub/s2"]),
        ("labels/", ["labels/s1", "labels/sub/s2"]),
        ("labels/s", ["labels/s1", "labels/sub/s2"]),
        ("labels/su", ["labels/sub/s2"]),
        ("labels/sub/", ["labels/sub/s2"]),
        ("lab", ["lab", "labels-v2/s1", "labels/s1", "labels/sub/s2"]),
        ("nothing/here", []),
        ("labels/s1/x", []),
    ],
)
def test_list_goes_by_the_letters_of_a_key_not_by_folders(store, prefix, expected):
    for key in ["_manifest.json", "_manifest-v2.json", "labels/s1", "labels/sub/s2", "labels-v2/s1", "lab"]:
        store.put(key, b"x")
    assert list_keys(store, prefix) == sorted(expected)


def test_odd_keys_come_back_letter_by_letter(store):
    for number, key in enumerate(ODD_KEYS):
        assert store.put_if_absent(key, str(number).encode()) is True
    assert list_keys(store) == sorted(ODD_KEYS)
    assert [store.get(key) for key in ODD_KEYS] == [str(number).encode() for number in range(len(ODD_KEYS))]
    assert list_keys(store, "percent%2") == ["percent%2Fslash.jpg"]
    assert store.put_if_absent("percentA.jpg", b"") is True  # not the same as percent%41.jpg


def test_a_listing_of_many_pages(s3_uri):
    store = open_store(s3_uri)
    keys = [f"{number % 7}/{number:05d}" for number in range(1_003)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda key: store.put(key, b""), keys))
    assert list_keys(store) == sorted(keys)
    # In two streams from the second page on. A folder at a time, whose order this server does follow.
    in_streams = open_store(s3_uri, StorageConfig(list_streams=2))
    assert [entry.key for entry in in_streams.list("3/")] == sorted(key for key in keys if key.startswith("3/"))
    assert [entry.key for entry in in_streams.list()] == sorted(keys)
    assert all(abs(entry.modified_s - time.time()) < 600 for entry in in_streams.list())


def test_a_store_below_a_prefix_sees_only_its_own(s3, s3_uri):
    open_store(f"{s3_uri}/run").put("a", b"inside")
    open_store(f"{s3_uri}/run-2").put("a", b"beside")
    assert list_keys(open_store(f"{s3_uri}/run/")) == ["a"]
    assert list_keys(open_store(s3_uri)) == ["run-2/a", "run/a"]
    assert open_store(f"{s3_uri}/run/").uri == f"{s3_uri}/run"


def test_an_endpoint_may_be_given_instead_of_the_environments(s3, s3_uri, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    store = open_store(s3_uri, StorageConfig(endpoint_url=s3.endpoint_url, deadline_s=5))
    store.put("a", b"1")
    assert store.get("a") == b"1"


# Local folders


def test_a_reader_sees_the_old_file_or_the_new_one_and_no_temporary(tmp_path):
    store = LocalStore(tmp_path)
    contents = [bytes([number]) * 200_000 for number in range(2)]
    store.put("report", contents[0])
    done = threading.Event()

    def replace_often():
        for number in range(60):
            store.put("report", contents[number % 2])
            store.put_if_absent(f"new/{number}", contents[0])
        done.set()

    seen, listed, sizes = set(), set(), set()
    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(replace_often)
        while not done.is_set() and not writer.done():
            seen.add(store.get("report"))
            for entry in store.list():
                listed.add(entry.key)
                sizes.add(entry.num_bytes)
        writer.result()
    assert seen <= set(contents)
    assert sizes == {200_000}
    assert listed <= {"report", *(f"new/{number}" for number in range(60))}
    assert list_keys(store) == sorted(["report", *(f"new/{number}" for number in range(60))])


def test_temporary_files_of_a_dead_writer_are_not_listed(tmp_path):
    store = LocalStore(tmp_path)
    store.put("labels/shard", b"1")
    (tmp_path / "labels" / ".tmp-0123").write_bytes(b"half")
    assert list_keys(store) == ["labels/shard"]


@pytest.mark.parametrize("write", ["put", "put_if_absent"])
def test_a_write_that_fails_is_an_error_of_the_store_and_leaves_nothing(tmp_path, write):
    (tmp_path / "taken" / "by-a-folder").mkdir(parents=True)
    store = LocalStore(tmp_path)
    if write == "put":
        with pytest.raises(StorageError, match="cannot write"):
            store.put("taken", b"x")
    else:
        assert store.put_if_absent("taken", b"x") is False
    with pytest.raises(StorageError, match="cannot write"):
        getattr(store, write)("file-name-of-300-letters" + "x" * 300, b"x")
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]


def test_links_are_followed_and_dead_ones_are_listed(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.jpg").write_bytes(b"123")
    (tmp_path / "images" / "folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "images" / "dead.jpg").symlink_to(tmp_path / "nothing")
    (tmp_path / "images" / "self.jpg").symlink_to(tmp_path / "images" / "self.jpg")
    store = LocalStore(tmp_path / "images")
    assert list_keys(store) == ["dead.jpg", "folder/a.jpg", "self.jpg"]
    assert store.get("folder/a.jpg") == b"123"
    with pytest.raises(MissingObjectError):
        store.get("dead.jpg")


def test_a_link_back_is_not_walked_again(tmp_path):
    store = LocalStore(tmp_path / "images")
    store.put("a/1.jpg", b"")
    LocalStore(tmp_path / "beside").put("2.jpg", b"")
    (tmp_path / "images" / "a" / "up").symlink_to(tmp_path / "images")
    (tmp_path / "images" / "a" / "beside").symlink_to(tmp_path / "beside")
    (tmp_path / "images" / "b").symlink_to(tmp_path / "beside")  # a second way to the same folder is no loop
    (tmp_path / "beside" / "back").symlink_to(tmp_path / "images" / "a")
    (tmp_path / "beside" / "above").symlink_to(tmp_path)
    assert list_keys(store) == ["a/1.jpg", "a/beside/2.jpg", "b/2.jpg", "b/back/1.jpg"]


def test_a_local_listing_is_sorted_folder_by_folder(tmp_path):
    store = LocalStore(tmp_path)
    for key in ("b/2", "a", "b/1", "c", "b/a/z"):
        store.put(key, b"")
    assert [entry.key for entry in store.list()] == ["a", "b/1", "b/2", "b/a/z", "c"]


# URIs


@pytest.mark.parametrize(
    "uri",
    [
        "s3://AKIAKEY:topsecret@bucket/prefix",
        "s3://AKIAKEY:top/secret@bucket/prefix",
        "s3://topsecret@bucket",
        "gs://user:topsecret@bucket/prefix",
        "S3://AKIAKEY:topsecret@bucket/prefix",
    ],
)
def test_credentials_in_a_uri_are_refused_and_not_repeated(uri):
    with pytest.raises(ConfigError, match="must not hold credentials") as error:
        open_store(uri)
    assert "secret" not in str(error.value)
    assert "AKIAKEY" not in str(error.value)


@pytest.mark.parametrize("uri", ["s3://", "s3:///prefix", "s3://bad bucket/x", "s3://bucket?region=x/y"])
def test_a_uri_without_a_proper_bucket(uri):
    with pytest.raises(ConfigError, match="expected s3://bucket/prefix"):
        open_store(uri)


def test_an_unknown_scheme():
    with pytest.raises(ConfigError, match="'floppy://a/b' cannot be opened"):
        open_store("floppy://a/b")


def test_an_at_sign_in_a_key_is_no_credential(s3, s3_uri):
    store = open_store(f"{s3_uri}/me@home")
    store.put("a:b@c", b"1")
    assert list_keys(store) == ["a:b@c"]


@pytest.mark.parametrize("build", [str, lambda path: f"file://{path}"])
def test_local_addresses(tmp_path, build):
    store = open_store(build(tmp_path / "x"))
    assert isinstance(store, LocalStore)
    store.put("a", b"1")
    assert (tmp_path / "x" / "a").read_bytes() == b"1"
    assert store.uri == str(tmp_path / "x")


def test_s3_addresses(s3):
    store = open_store("s3://bucket")
    assert isinstance(store, S3Store)
    assert store.uri == "s3://bucket"


# pyarrow's file systems: `mock://` is pyarrow's own store in memory


def test_other_file_systems_of_pyarrow_are_read_only():
    store = open_store("mock:///images")
    assert isinstance(store, ArrowStore)
    for write in (lambda: store.put("a", b""), lambda: store.put_if_absent("a", b""), lambda: store.delete("a")):
        with pytest.raises(ConfigError, match="local folders and s3:// only"):
            write()


def test_a_pyarrow_file_system_lists_and_reads(s3, s3_uri):
    plain = open_store(s3_uri)
    keys = ["a.jpg", "b c/ü.jpg", "b c/d/e.jpg", "bx/f.jpg"]
    for key in keys:
        plain.put(key, key.encode())
    store = ArrowStore(s3_uri)
    assert list_keys(store) == sorted(keys)
    assert list_keys(store, "b") == ["b c/d/e.jpg", "b c/ü.jpg", "bx/f.jpg"]
    assert list_keys(store, "b c/d") == ["b c/d/e.jpg"]
    assert [store.get(key) for key in keys] == [key.encode() for key in keys]
    with pytest.raises(MissingObjectError):
        store.get("nothing.jpg")
    assert list_keys(ArrowStore(f"{s3_uri}/{uuid.uuid4().hex}")) == []
