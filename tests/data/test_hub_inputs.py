"""Images of data sets on the Hugging Face hub, over real sockets; the hub is a small server of ours."""

import io
import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from faceattr.data.hub.commits import pin_commit
from faceattr.data.inputs.open import open_input
from faceattr.data.stores.open import open_output
from faceattr.errors import ConfigError
from tests.fakes.hub_server import serve_hub

COMMIT = "a" * 40
NEXT = "b" * 40
FACES = f"hf://datasets/ann/faces@{COMMIT}"


def png(grey):
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (grey, grey, grey)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def hub():
    with serve_hub() as server:
        server.repos["datasets/ann/faces"] = True
        server.commits["datasets/ann/faces"] = COMMIT
        server.files["datasets/ann/faces"] = {"README.md": b"x", "raw/a.png": png(1), "raw/deep/b.png": png(2)}
        yield server


LIST = """
images = open_input(sys.argv[1])
rows = [row for table in images.tables for row in table.to_pylist()]
say({"root": images.root, "rows": rows})
"""
READ = """
rows = json.loads(sys.argv[2])
stage = ReadImages(sys.argv[1], StorageConfig(), ImageLimitsConfig(), None)
tables = stage(pa.Table.from_pylist([{"row": i, "status": None, **row} for i, row in enumerate(rows)]))
say([each["data"].hex() if each["data"] else each["error"] for table in tables for each in table.to_pylist()])
"""
PIN = "say([pin_commit(each) for each in sys.argv[1:]])"
GET = "say(open_store(sys.argv[1]).get(sys.argv[2]).hex())"
BEGIN = """
import json, sys
import pyarrow as pa
from faceattr.config import ImageLimitsConfig, StorageConfig
from faceattr.data.hub.commits import pin_commit
from faceattr.data.inputs.open import open_input
from faceattr.data.stores.open import open_store
from faceattr.errors import ConfigError, StorageError
from faceattr.jobs.images.read import ReadImages

def say(value):
    print(json.dumps(value))
"""


def ask(hub, code, *words):
    """What the code says in a process of its own, which meets the hub's address in its environment, as a user's."""
    command = [sys.executable, "-c", BEGIN + code, *words]
    ended = subprocess.run(command, env=os.environ | hub.environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        return ended.stderr.strip().splitlines()[-1]
    return json.loads(ended.stdout)


def test_an_address_gets_the_commit_that_it_means_now(hub):
    pinned = {
        "hf://datasets/ann/faces": FACES,
        "hf://datasets/ann/faces/raw": f"{FACES}/raw",
        "hf://datasets/ann/faces@main/raw": f"{FACES}/raw",
        f"hf://datasets/ann/faces@{NEXT}/raw": f"hf://datasets/ann/faces@{NEXT}/raw",
        "s3://bucket/prefix": "s3://bucket/prefix",
    }
    assert ask(hub, PIN, *pinned) == list(pinned.values())


@pytest.mark.parametrize("address", ["hf://ann/model", "hf://datasets/faces", "hf://datasets/a/b@"])
def test_what_is_no_address_of_a_data_set(address):
    with pytest.raises(ConfigError, match="expected hf://datasets/OWNER/NAME"):
        pin_commit(address)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (
            "hf://datasets/ann/none",
            "ConfigError: hf://datasets/ann/none: the hub has no such data set, or it is private",
        ),
        ("hf://datasets/ann/faces@v9", "ConfigError: hf://datasets/ann/faces@v9: the data set has no revision 'v9'"),
    ],
)
def test_what_cannot_be_found_is_said(hub, address, said):
    assert said in ask(hub, PIN, address)


def test_a_hub_that_is_away(hub):
    hub.port = 9  # nothing listens there
    assert "StorageError: hf://datasets/ann/faces: the hub cannot be reached" in ask(
        hub, PIN, "hf://datasets/ann/faces"
    )


def test_a_folder_of_images_is_listed_and_read_at_its_commit(hub):
    images = ask(hub, LIST, "hf://datasets/ann/faces")
    assert images["root"] == FACES
    assert [row["image_id"] for row in images["rows"]] == ["raw/a.png", "raw/deep/b.png"]
    files = hub.files["datasets/ann/faces"]
    files["raw/c.png"] = png(3)  # the branch moves on, but not for this run
    hub.commits["datasets/ann/faces"] = NEXT
    del files["raw/deep/b.png"]
    read = ask(hub, READ, FACES, json.dumps(images["rows"]))
    assert read == [png(1).hex(), "there is no such object"]
    assert {place.split("/")[1] for place, _ in hub.reads} == {COMMIT}


def test_a_parquet_file_with_images(hub):
    table = pa.table({"image": [{"bytes": png(n), "path": None} for n in range(3)], "hat": [0, 1, 0]})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    hub.files["datasets/ann/faces"] = {"README.md": b"x", "data/train-00000.parquet": sink.getvalue()}
    rows = ask(hub, LIST, "hf://datasets/ann/faces")["rows"]
    assert [(row["image_id"], row["hat"]) for row in rows] == [
        (f"data/train-00000.parquet#{number}", number % 2) for number in range(3)
    ]
    assert all(part is not None for _, part in hub.reads)


def test_an_outage_on_the_way_is_ours(hub):
    assert ask(hub, GET, FACES, "raw/a.png") == png(1).hex()
    assert "MissingObjectError" in ask(hub, GET, FACES, "raw/none.png")
    hub.status = 403
    assert "RefusedObjectError" in ask(hub, GET, FACES, "raw/a.png")


def test_the_hub_is_not_written():
    with pytest.raises(ConfigError, match="runs are written to local folders and s3:// only"):
        open_output("hf://datasets/ann/faces/labels")


def test_no_token_is_in_an_address():
    with pytest.raises(ConfigError, match="must not hold credentials"):
        open_input("hf://user:hf_secret@datasets/ann/faces")
