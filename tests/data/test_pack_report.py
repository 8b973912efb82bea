"""What people read of a packed run, also where the session that published it was killed before."""

from faceattr.attributes import Attribute, AttributeSet
from faceattr.data.packed.writer import open_packed_version
from faceattr.data.runs.version import read_record
from faceattr.data.stores.open import open_store
from faceattr.reports.pack import STRATIFICATION_KEY, write_missing_report
from tests.packed_runs import write_packed_run


def test_the_tables_of_a_published_run_are_drawn_where_they_are_missing_and_only_there(tmp_path):
    attributes = AttributeSet(attributes=(Attribute(name="hat", kind="binary", classes=("no", "yes")),))
    rows = {split: [{"image": b"x", "hat": value} for value in (1, 1, 0)] for split in ("train", "val")}
    store = open_store(write_packed_run(tmp_path / "packed", attributes, rows))
    version = open_packed_version(store, read_record(store))
    write_missing_report(version)
    assert store.get("splits/train.csv").decode().splitlines() == [
        "image_id,hat",
        "train/00000.jpg,1",
        "train/00001.jpg,1",
        "train/00002.jpg,0",
    ]
    table = store.get(STRATIFICATION_KEY)
    assert b"hat" in table
    store.delete("splits/train.csv")
    write_missing_report(version)
    assert store.get(STRATIFICATION_KEY) == table
    assert not (tmp_path / "packed" / "splits" / "train.csv").exists()
