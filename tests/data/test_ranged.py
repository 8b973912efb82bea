"""Ranged reading: what pyarrow reads of an S3 object comes from the store that boto3 speaks to."""

import io
import random

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from faceattr.attributes import Attribute, AttributeSet
from faceattr.config import StorageConfig
from faceattr.data.inputs.open import open_input
from faceattr.data.packed.reader import open_packed
from faceattr.data.sources.options import SourceOptions
from faceattr.data.sources.registry import open_source
from faceattr.data.sources.source import Rejects
from faceattr.data.stores import ranged
from faceattr.data.stores.open import open_store
from faceattr.data.stores.ranged import open_ranged
from faceattr.data.stores.s3 import S3Store, _make_client
from faceattr.errors import ConfigError, StorageError
from tests.fakes.proxy import Fault, serve_faults
from tests.packed_runs import write_packed_run

DATA = random.Random(7).randbytes(20 * 2**20 + 3)


@pytest.fixture(scope="module")
def running(s3):
    with serve_faults(s3.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def proxy(running):
    running.reset()
    return running


@pytest.fixture
def configured(proxy, s3, tmp_path, monkeypatch):
    """A home whose ~/.aws names the endpoint, as it is where no variable does."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text(
        f"[profile private]\nregion = eu-south-9\nendpoint_url = {proxy.url}\ns3 =\n    addressing_style = path\n"
    )
    (tmp_path / ".aws" / "credentials").write_text(
        f"[private]\naws_access_key_id = {s3.environment['AWS_ACCESS_KEY_ID']}\n"
        f"aws_secret_access_key = {s3.environment['AWS_SECRET_ACCESS_KEY']}\n"
    )
    for name in s3.environment:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_PROFILE", "private")
    return proxy


def parquet(columns):
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def test_a_manifest_is_read_from_the_endpoint_of_the_profile(configured, s3_uri):
    store = open_store(s3_uri)
    store.put("list.csv", b"uri,n\na.jpg,1\nb.jpg,2\n")
    store.put("list.parquet", parquet({"uri": ["c.jpg"]}))
    for name, expected in (("list.csv", ["a.jpg", "b.jpg"]), ("list.parquet", ["c.jpg"])):
        source = open_input(f"{s3_uri}/{name}")
        assert [row["image_id"] for table in source.tables for row in table.to_pylist()] == expected
    assert configured.count("GET", "list.parquet") > 0


def test_a_table_of_labels_is_read_from_the_endpoint_of_the_profile(configured, s3_uri):
    open_store(s3_uri).put("labels.csv", b"image,hat\na.jpg,1\n")
    labels = open_source("table", s3_uri, options=SourceOptions(), storage=StorageConfig())
    assert sum(len(table) for table in labels.tables(Rejects())) == 1


def test_packed_images_are_read_from_the_endpoint_of_the_profile(configured, s3_uri, attributes):
    write_packed_run(s3_uri, attributes, {split: [{"image": b"x", "hat": 1}] for split in ("train", "val")})
    configured.reset()
    (table,) = open_packed([s3_uri]).iter_split("train", ["image"])
    assert table["image"].to_pylist() == [b"x"]
    assert configured.count("GET", "shard-") > 0


@pytest.fixture
def attributes():
    return AttributeSet(attributes=(Attribute(name="hat", kind="binary", classes=("no", "yes")),))


@pytest.mark.parametrize("style", ["path", "virtual"])
def test_the_addressing_style_is_one_for_objects_and_ranges(configured, s3_uri, style, tmp_path):
    # With `virtual` both ask for <bucket>.127.0.0.1, which is no host: neither reaches the server.
    config = tmp_path / ".aws" / "config"
    open_store(s3_uri).put("a.bin", b"abc")
    config.write_text(config.read_text().replace("= path", f"= {style}").replace("127.0.0.1", "localhost"))
    options = StorageConfig(deadline_s=0.2)
    _make_client.cache_clear()  # the file changed, not the environment
    for read in (
        lambda: open_store(s3_uri, options).get("a.bin"),
        lambda: open_ranged(f"{s3_uri}/a.bin", options).read(),
    ):
        if style == "path":
            assert read() == b"abc"
        else:
            with pytest.raises(StorageError):
                read()


def test_requester_pays_is_asked_for_by_objects_and_ranges_alike(s3_uri, monkeypatch):
    monkeypatch.setenv("AWS_REQUEST_PAYER", "requester")
    store = open_store(s3_uri)
    assert isinstance(store, S3Store)
    seen = []
    store._client.meta.events.register("before-send.s3", lambda request, **_: seen.append(dict(request.headers)))
    store.put("a.bin", b"abc")
    assert store.get("a.bin") == open_ranged(f"{s3_uri}/a.bin", StorageConfig()).read() == b"abc"
    list(store.list())
    assert len(seen) == 4
    assert all(headers.get("x-amz-request-payer") in (b"requester", "requester") for headers in seen)


@pytest.mark.parametrize(
    ("name", "value"), [("AWS_PROFILE", "nobody"), ("AWS_ENDPOINT_URL", "localhost"), ("AWS_REQUEST_PAYER", "me")]
)
def test_settings_that_cannot_be_used_are_one_line(s3, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=value):
        open_store("s3://bucket/a")


def test_any_range_of_a_large_object_is_what_was_written(s3_uri, monkeypatch):
    monkeypatch.setattr(ranged, "_AHEAD_BYTES", 2**20)
    open_store(s3_uri).put("large.bin", DATA)
    draw = random.Random(3)
    with open_ranged(f"{s3_uri}/large.bin", StorageConfig()) as file:
        assert file.size() == len(DATA)
        for size in (1, 100, 70_000, 2**20, 5 * 2**20, 18 * 2**20):
            for _ in range(4):
                start = draw.randrange(len(DATA))
                file.seek(start)
                assert file.read(size) == DATA[start : start + size]
                assert file.tell() == min(start + size, len(DATA))
        file.seek(0)
        assert b"".join(iter(lambda: file.read(300_000), b"")) == DATA


def test_an_empty_object_and_one_that_is_not_there(s3_uri):
    open_store(s3_uri).put("empty", b"")
    with open_ranged(f"{s3_uri}/empty", StorageConfig()) as file:
        assert (file.size(), file.read()) == (0, b"")
    with pytest.raises(FileNotFoundError):
        open_ranged(f"{s3_uri}/missing", StorageConfig())


@pytest.mark.parametrize("kind", ["cut", "reset", "short", "error"])
def test_a_range_survives_a_bad_network(s3_uri, proxy, kind):
    options = StorageConfig(endpoint_url=proxy.url, deadline_s=20)
    open_store(s3_uri).put("a.bin", DATA[:200_000])
    proxy.add(Fault(kind, "GET", path="a.bin", times=2))
    with open_ranged(f"{s3_uri}/a.bin", options) as file:
        proxy.add(Fault(kind, "GET", path="a.bin", times=1))
        assert file.read() == DATA[:200_000]
    assert proxy.pending == []


def test_an_outage_while_a_file_is_read_is_an_error_of_the_store(s3_uri, proxy):
    open_store(s3_uri).put("a.parquet", parquet({"n": list(range(100_000))}))
    options = StorageConfig(endpoint_url=proxy.url, deadline_s=0.3)
    with open_ranged(f"{s3_uri}/a.parquet", options) as file:
        table = pq.ParquetFile(file, pre_buffer=True)
        proxy.outage = True
        with pytest.raises(StorageError, match=r"could not read s3://.*a\.parquet"):
            table.read()


def test_an_object_that_is_replaced_while_it_is_read_is_not_mixed_with_the_old_one(s3_uri):
    store = open_store(s3_uri)
    store.put("a.bin", DATA[:300_000])
    with open_ranged(f"{s3_uri}/a.bin", StorageConfig()) as file:
        store.put("a.bin", DATA[1:300_001])
        with pytest.raises(StorageError, match="was replaced while it was read"):
            file.read(10)


def test_a_small_read_of_a_large_file_fetches_little(s3_uri, proxy):
    columns = {"big": [DATA[start : start + 50_000] for start in range(0, 10_000_000, 50_000)], "n": list(range(200))}
    open_store(s3_uri).put("a.parquet", parquet(columns))
    with open_ranged(f"{s3_uri}/a.parquet", StorageConfig(endpoint_url=proxy.url)) as file:
        assert pq.ParquetFile(file).read(["n"])["n"].to_pylist() == list(range(200))
    assert proxy.count("GET", "a.parquet") <= 2


def test_a_csv_of_many_blocks_is_read_in_few_requests(s3_uri, proxy):
    lines = b"n\n" + b"".join(b"%d\n" % number for number in range(1_000_000))
    open_store(s3_uri).put("a.csv", lines)
    with open_ranged(f"{s3_uri}/a.csv", StorageConfig(endpoint_url=proxy.url)) as file:
        assert sum(len(batch) for batch in pa.csv.open_csv(file)) == 1_000_000
    assert proxy.count("GET", "a.csv") <= 4
