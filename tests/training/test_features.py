import dataclasses
import multiprocessing
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from faceattr.config import StorageConfig
from faceattr.config.augmentation import Augmentation
from faceattr.data.stores.local import LocalStore
from faceattr.data.stores.open import open_store
from faceattr.errors import ConfigError, RunError
from faceattr.models.backbones.preprocessing import Preprocessing
from faceattr.training.features.cache import (
    cut_parts,
    features_uri,
    missing_parts,
    open_features,
    publish_features,
    read_feature_manifest,
    write_part,
)
from faceattr.training.features.key import FeatureKey, View

PLAIN = Preprocessing(size_px=32, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
VIEW = View(number=0, seed=42, augment=Augmentation())
KEY = FeatureKey(
    weights_id="ab" * 32,
    boundary=3,
    preprocessing=PLAIN,
    precision="float32",
    dtype="float32",
    data_fingerprint="cd" * 32,
    view=VIEW,
)
CHANGES: dict[str, dict[str, Any]] = {
    "weights": {"weights_id": "ac" * 32},
    "boundary": {"boundary": 4},
    "size": {"preprocessing": dataclasses.replace(PLAIN, size_px=64)},
    "mean": {"preprocessing": dataclasses.replace(PLAIN, mean=(0.5, 0.5, 0.4))},
    "interpolation": {"preprocessing": dataclasses.replace(PLAIN, interpolation="bilinear")},
    "crop": {"preprocessing": dataclasses.replace(PLAIN, crop_fraction=0.9)},
    "precision": {"precision": "bfloat16"},
    "dtype": {"dtype": "float16"},
    "data": {"data_fingerprint": "ce" * 32},
    "no view": {"view": None},
    "view": {"view": dataclasses.replace(VIEW, number=1)},
    "seed": {"view": dataclasses.replace(VIEW, seed=43)},
    "augmentation": {"view": dataclasses.replace(VIEW, augment=Augmentation(strength=0.5))},
}
STORAGE = StorageConfig()


def fill(uri, key, values):
    """A cache of a train split of 21 rows in parts of about 8, and a val split of 3."""
    store = open_store(uri, STORAGE)
    parts = [*cut_parts("train", 21, 8), *cut_parts("val", 3, 8)]
    for part in parts:
        rows = values[part.split][part.start : part.start + part.num_rows]
        write_part(store, part, rows, key.dtype)
    return publish_features(store, key, values["train"].shape[1:], parts)


def numbers(*shape):
    generator = torch.Generator().manual_seed(0)
    return {
        "train": torch.randn(21, *shape, generator=generator),
        "val": torch.randn(3, *shape, generator=generator),
    }


def test_a_key_has_the_precision_of_a_device():
    with pytest.raises(ConfigError, match="precision is auto"):
        dataclasses.replace(KEY, precision="auto")


def test_every_ingredient_has_a_change():
    fields = {field.name for field in dataclasses.fields(FeatureKey)}
    assert fields == {name for change in CHANGES.values() for name in change}
    same = dataclasses.replace(KEY, preprocessing=dataclasses.replace(PLAIN))
    assert same.digest == KEY.digest


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_cache_is_not_used_where_an_ingredient_differs(change, tmp_path):
    root = str(tmp_path)
    fill(features_uri(root, KEY), KEY, numbers(6))
    assert open_features(features_uri(root, KEY), STORAGE) is not None
    other = dataclasses.replace(KEY, **change)
    assert open_features(features_uri(root, other), STORAGE) is None


def test_parts_cover_a_split():
    parts = cut_parts("train", 21, 8)
    assert [(part.number, part.start, part.num_rows) for part in parts] == [(0, 0, 8), (1, 8, 8), (2, 16, 5)]
    assert parts[1].key == "split=train/part-00000001.arrow"
    assert cut_parts("val", 0, 8) == []


@pytest.mark.parametrize("place", ["folder", "bucket"])
def test_rows_come_back_in_the_asked_order(place, tmp_path, request, monkeypatch):
    monkeypatch.setenv("FACEATTR_CACHE", str(tmp_path / "cache"))
    root = request.getfixturevalue("s3_uri") if place == "bucket" else str(tmp_path)
    values = numbers(2, 3)
    manifest = fill(features_uri(root, KEY), KEY, values)
    assert manifest.num_bytes == 24 * 6 * 4
    found = open_features(features_uri(root, KEY), STORAGE)
    assert {split: len(each) for split, each in found.items()} == {"train": 21, "val": 3}
    index = np.array([20, 0, 7, 7, 5, 18, 4])
    torch.testing.assert_close(found["train"].take(index), values["train"][index], rtol=0, atol=0)
    torch.testing.assert_close(found["val"].load(), values["val"], rtol=0, atol=0)
    assert found["train"].take(np.array([], np.int64)).shape == (0, 2, 3)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 2**-11), ("bfloat16", 2**-8)])
def test_half_precision_is_off_by_its_last_bit_at_most(dtype, tolerance, tmp_path):
    key = dataclasses.replace(KEY, dtype=dtype)
    values = numbers(50)
    fill(features_uri(str(tmp_path), key), key, values)
    found = open_features(features_uri(str(tmp_path), key), STORAGE)["train"].load()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, values["train"], rtol=tolerance, atol=1e-6)
    assert not torch.equal(found, values["train"])


def test_a_cache_that_is_not_complete_is_not_opened(tmp_path):
    store = LocalStore(tmp_path)
    parts = cut_parts("train", 21, 8)
    values = numbers(4)["train"]
    for part in parts[:-1]:
        write_part(store, part, values[part.start : part.start + part.num_rows], "float32")
    assert missing_parts(store, parts) == parts[-1:]
    with pytest.raises(RunError, match="1 of 3 parts"):
        publish_features(store, KEY, (4,), parts)
    assert read_feature_manifest(store) is None
    assert open_features(str(tmp_path), STORAGE) is None


def test_a_second_writer_changes_nothing(tmp_path):
    store = LocalStore(tmp_path)
    (part,) = cut_parts("train", 4, 8)
    write_part(store, part, torch.ones(4, 2), "float32")
    before = (tmp_path / part.key).read_bytes()
    write_part(store, part, torch.zeros(4, 2), "float32")
    assert (tmp_path / part.key).read_bytes() == before


def test_a_part_that_is_another_is_refused(tmp_path):
    fill(str(tmp_path), KEY, numbers(4))
    first, second = (tmp_path / part.key for part in cut_parts("train", 21, 8)[:2])
    second.write_bytes(first.read_bytes())
    with pytest.raises(RunError, match="differs from the manifest"):
        open_features(str(tmp_path), STORAGE)


def test_files_are_mapped_and_not_read(tmp_path):
    fill(str(tmp_path), KEY, numbers(100_000))
    before = pa.total_allocated_bytes()
    found = open_features(str(tmp_path), STORAGE)["train"]
    found.take(np.array([3]))
    assert pa.total_allocated_bytes() - before < 1_000_000


def _open(uri, queue):
    queue.put(float(open_features(uri, STORAGE)["train"].take(np.array([2]))[0, 0]))


def test_processes_of_a_machine_download_once(s3_uri, tmp_path, monkeypatch):
    monkeypatch.setenv("FACEATTR_CACHE", str(tmp_path / "cache"))
    values = numbers(4)
    fill(s3_uri, KEY, values)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=_open, args=(s3_uri, queue)) for _ in range(3)]
    for process in processes:
        process.start()
    found = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert found == [pytest.approx(float(values["train"][2, 0]))] * 3
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 1


def test_an_unknown_type_is_refused():
    with pytest.raises(ConfigError, match="float8"):
        dataclasses.replace(KEY, dtype="float8")
