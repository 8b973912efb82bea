"""The pictures that the review server sends: upright, bounded, of every kind of input; bad images and outages."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.audit.audits import write_audit
from tests.audit.review.servers import ask, encode_colour
from tests.stores import upload_folder


def read_picture(client_bytes: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(client_bytes)) as picture:
        assert picture.format == "JPEG"
        return np.asarray(picture.convert("RGB")).astype(int)


def fetch_pictures(folder, *items):
    async def scenario(client, origin):
        found = []
        for item in items:
            async with client.get(f"/api/pictures/{item}") as answer:
                found.append((answer.status, await answer.read()))
        return found

    return ask(folder, scenario)


def test_pictures_are_upright_and_bad_images_are_told(audit):
    turned, cut, plain, gone, none = fetch_pictures(audit, 0, 1, 2, 3, 4)
    assert (turned[0], plain[0]) == (200, 200)
    pixels = read_picture(turned[1])
    # Stored 40 x 20 with the red half at the left; orientation 6 is shown turned clockwise: red at the top.
    assert pixels.shape == (40, 20, 3)
    assert np.abs(pixels[:15] - [255, 0, 0]).max() < 30
    assert np.abs(pixels[25:]).max() < 30
    assert np.abs(read_picture(plain[1])[:, :15] - [0, 255, 0]).max() < 30
    assert cut[0] == 422
    assert json.loads(cut[1])["reason"] == "truncated"
    assert (gone[0], json.loads(gone[1])) == (422, {"reason": "missing", "detail": "there is no such object"})
    assert none[0] == 400


def test_large_pictures_are_sent_smaller(tmp_path):
    (tmp_path / "a.png").write_bytes(encode_colour("red", size=(3_000, 1_500), kind="PNG"))
    write_audit(tmp_path / "audit", [{"image_id": "a.png"}], root=tmp_path)
    ((status, data),) = fetch_pictures(tmp_path / "audit", 0)
    assert status == 200
    assert read_picture(data).shape == (1_024, 2_048, 3)


def test_pictures_in_parquet_files_and_copies_in_the_folder(tmp_path):
    colours = ["red", "lime", "blue"]
    pq.write_table(pa.table({"image": [encode_colour(each) for each in colours]}), tmp_path / "packed.parquet")
    packed = {"uri": f"{tmp_path}/packed.parquet"}
    items = [{"image_id": str(row), "source_row": row, **packed} for row in (2, 1)]
    write_audit(tmp_path / "files", items, root=tmp_path, bytes_column="image")
    folder = tmp_path / "copies"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "x.jpg").write_bytes(encode_colour("white"))
    items = [
        {"image_id": "0", "source_row": 0, "copy": "images/x.jpg", **packed},
        {"image_id": "1", "source_row": 1, "copy": "images/gone.jpg", **packed},
        {"image_id": "2", "source_row": 2, **packed},
    ]
    write_audit(folder, items, root=tmp_path, bytes_column="image")
    copied, *lost = fetch_pictures(folder, 0, 1, 2)
    found = [*fetch_pictures(tmp_path / "files", 0, 1), copied]
    colours = [read_picture(data)[:, :15].mean((0, 1)) for _, data in found]
    assert np.allclose(colours, [[0, 0, 255], [0, 255, 0], [255, 255, 255]], atol=12)
    # Where images were copied, the others could not be read then.
    assert [(status, json.loads(problem)["reason"]) for status, problem in lost] == [(422, "missing")] * 2


def test_pictures_come_from_the_bucket_through_the_server(s3_uri, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.jpg").write_bytes(encode_colour("red"))
    upload_folder(source, s3_uri)
    write_audit(tmp_path / "audit", [{"image_id": "a.jpg"}, {"image_id": "none.jpg"}], root=s3_uri)
    (status, data), (other, problem) = fetch_pictures(tmp_path / "audit", 0, 1)
    assert (status, other) == (200, 422)
    assert np.abs(read_picture(data)[:, :15] - [255, 0, 0]).max() < 30
    assert json.loads(problem)["reason"] == "missing"


def test_an_outage_is_no_bad_image(tmp_path):
    items = [{"image_id": "a", "uri": f"{tmp_path}/gone.parquet", "source_row": 0}]
    write_audit(tmp_path / "audit", items, root=tmp_path, bytes_column="image")
    ((status, problem),) = fetch_pictures(tmp_path / "audit", 0)
    assert status == 503
    assert "gone.parquet" in json.loads(problem)["error"]
