"""JSON files from before formats had versions are read; files of a later faceattr are refused, with what to do."""

import json
import shutil

import pytest

from faceattr.data.runs.lease import acquire_lease, find_driver
from faceattr.data.runs.status import read_run_status
from faceattr.data.stores.open import open_store
from faceattr.errors import ConfigError
from faceattr.jobs.train.survey import load_surveys
from faceattr.search.records import begin_trial, end_trial, read_begun, read_records
from faceattr.training.features.cache import read_feature_manifest
from faceattr.training.history import ProgressNote, read_history, read_progress, write_history
from faceattr.training.label_survey import encode_surveys
from tests.goldens.bucket import SAMPLES

NEWEST = {"record.json": 2}
FEATURES = next((SAMPLES / "search_unfinished" / "features").iterdir()).relative_to(SAMPLES).as_posix()


@pytest.mark.parametrize(
    ("folder", "file", "read"),
    [
        ("labels", "sessions/*.json", read_run_status),
        ("labels", "_lease/*.json", find_driver),
        ("model", "metrics.jsonl", read_history),
        ("model", "metrics.jsonl", read_run_status),
        ("model", "survey.json", load_surveys),
        ("model_unfinished", "progress.json", read_progress),
        ("search_unfinished", "trials/t0001/trial.json", read_begun),
        ("search_unfinished", "trials/t0001/record.json", read_records),
        (FEATURES, "_features.json", read_feature_manifest),
    ],
)
def test_a_file_of_a_later_faceattr_is_refused(tmp_path, folder, file, read):
    shutil.copytree(SAMPLES / folder, tmp_path / "run")
    store = open_store(str(tmp_path / "run"))
    read(store)
    (path,) = (tmp_path / "run").glob(file)
    first, *rest = path.read_text().splitlines(keepends=True) if path.suffix == ".jsonl" else [path.read_text()]
    old = json.loads(rest[-1] if rest else first)
    assert "schema_version" not in old
    newest = NEWEST.get(path.name, 1)
    path.write_text(first * bool(rest) + json.dumps(old | {"schema_version": newest + 1}))
    words = rf"has schema version {newest + 1}; this faceattr reads versions up to {newest}\. Use the"
    with pytest.raises(ConfigError, match=words):
        read(store)


def test_what_is_written_now_says_its_version_and_is_read_as_it_was(tmp_path):
    old, store = open_store(str(SAMPLES / "search_unfinished")), open_store(str(tmp_path))
    history = read_history(open_store(str(SAMPLES / "model")))
    write_history(store, history)
    (record, _), begun = read_records(old), read_begun(old)
    begin_trial(store, 0, begun[0])
    end_trial(store, record)
    surveys = load_surveys(old)
    store.put("survey.json", encode_surveys(surveys))
    list(ProgressNote(store, num_epochs=2, num_batches=4).follow([[None]], epoch=1, world_size=1))
    acquire_lease(store).release("stopped")
    for entry in store.list():
        for line in store.get(entry.key).splitlines() if entry.key == "metrics.jsonl" else [store.get(entry.key)]:
            assert json.loads(line)["schema_version"] == NEWEST.get(entry.key.rpartition("/")[2], 1), entry.key
    assert repr(read_history(store)) == repr(history)  # as text, in which one NaN is like another
    assert repr(read_records(store)) == repr([record])
    assert read_begun(store) == {0: begun[0]}
    assert encode_surveys(load_surveys(store)) == encode_surveys(surveys)
    assert read_progress(store)["num_batches"] == 4
