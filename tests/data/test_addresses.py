"""Credentials in addresses: what is one, what is none, and that no door repeats one."""

import json
import logging

import pytest

from faceattr.cli import main, run_job
from faceattr.config import LabelConfig, StorageConfig
from faceattr.data.inputs.open import open_input
from faceattr.data.model_folders import fetch_folder, locate_folder
from faceattr.data.sources.options import SourceOptions
from faceattr.data.sources.registry import open_source
from faceattr.data.stores.addresses import check_no_credentials, find_credentials
from faceattr.data.stores.open import open_output, open_store
from faceattr.data.stores.ranged import open_ranged
from faceattr.errors import ConfigError
from faceattr.search.shared_config import read_text

SECRET = "t0psecret"
WITH_SECRET = [
    f"s3://AKIAKEY:{SECRET}@bucket/a",
    f"s3a://AKIAKEY:{SECRET}@bucket/a",
    f"s3://AKIAKEY:12/{SECRET}@bucket/a",
    f"s3://{SECRET}@bucket/a",
    f"S3:/AKIAKEY:{SECRET}@bucket/a",  # as pathlib leaves it
    f"s3://AKIAKEY%3A{SECRET}%40bucket/a",
    f"https://user:{SECRET}@host.example/a.jpg",
    f"https://user:{SECRET}/x@host.example/a.jpg",
    f"https:\\\\user:{SECRET}@host.example\\a.jpg",
    f"//user:{SECRET}@host.example/a.jpg",
    f"https://{SECRET}@host.example/a.jpg",
    f"abfss://container:{SECRET}@account.dfs.core.windows.net/a",
    f"hdfs://user:{SECRET}@namenode:8020/a",
    f"simplecache::s3://AKIAKEY:{SECRET}@bucket/a",
    f"image=s3://AKIAKEY:{SECRET}@bucket/a",
    f"https://bucket.s3.amazonaws.com/a.jpg?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature={SECRET}",
    f"https://bucket.s3.amazonaws.com/a.jpg?AWSAccessKeyId={SECRET}&Expires=1",
    f"https://bucket.s3.amazonaws.com/a.jpg%3FX-Amz-Security-Token%3D{SECRET}",
    f"https://account.blob.core.windows.net/c/a.jpg?sv=2022-11-02&sp=r&sig={SECRET}",
    f"https://storage.googleapis.com/b/a.jpg?X-Goog-Signature={SECRET}",
    f"https://storage.googleapis.com/b/a.jpg?GoogleAccessId=me&Signature={SECRET}",
    f"s3://bucket/a?access_key=AKIAKEY&secret_key={SECRET}",
    f"https://host.example/a.jpg?token={SECRET}",
    f"https://host.example/a.jpg?size=1&api_key={SECRET}",
    f"https://host.example/a#access_token={SECRET}",
    f"img/a.jpg?sig={SECRET}",
]
WITHOUT_SECRET = [
    "",
    "img/000.jpg",
    "/data/me@home/a:b.jpg",
    "C:\\data\\me@home\\a.jpg",
    "file:///data/a:b@c.jpg",
    "s3://bucket/me@home/a:b@c.jpg",
    "abfss://container@account.dfs.core.windows.net/a",
    "abfs://container@account.dfs.core.windows.net:443/a",
    "wasbs://container@account.blob.core.windows.net/a",
    "gs://anonymous@bucket/a",
    "hdfs://namenode:8020/user/a@b",
    "hdfs://me@namenode:8020/a",
    "http://[::1]:9000/a",
    "https://host.example:9000/a.jpg?size=224&design=1&page=2",
    "s3://bucket/a?b=c",
    "s3://bucket/sig=1/token=2/a.jpg",
    "hat=wearing_hat",
    "race=Race:White|Black|Asian",
    "tokens/what is it?.jpg",
]


@pytest.mark.parametrize("address", WITH_SECRET)
def test_credentials_are_found_and_not_repeated(address):
    with pytest.raises(
        ConfigError, match=r"^--images: expected a plain address, found .* must not hold credentials"
    ) as error:
        check_no_credentials(address, "--images")
    assert SECRET not in str(error.value)
    assert "AKIAKEY" not in str(error.value)


@pytest.mark.parametrize("address", WITHOUT_SECRET)
def test_what_is_no_credential(address):
    assert find_credentials(address) is None


DOORS = {
    "store": open_store,
    "output": open_output,
    "file": lambda address: open_ranged(address, StorageConfig()),
    "images": open_input,
    "manifest": lambda address: open_input(f"{address}/list.csv"),
    "packed": lambda address: open_input(f"{address}/a.parquet"),
    "root": lambda address: open_input("list.csv", root=address),
    "fetched folder": lambda address: fetch_folder(address, StorageConfig()),
    "model": lambda address: locate_folder(address, patterns=["*"]),
    "text": lambda address: read_text(address, StorageConfig(), "--space"),
    "source": lambda address: open_source("table", address),
    "label files": lambda address: open_source("table", ".", options=SourceOptions(files=(address,))),
    "image folder": lambda address: open_source("utkface", ".", options=SourceOptions(image_folder=address)),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("address", [WITH_SECRET[0], WITH_SECRET[6], WITH_SECRET[15]])
def test_every_door_refuses_credentials(door, address):
    with pytest.raises(ConfigError, match="must not hold credentials") as error:
        DOORS[door](address)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize("address", [WITH_SECRET[0], WITH_SECRET[15]])
def test_a_row_of_a_manifest_is_refused_by_its_number(tmp_path, address):
    path = tmp_path / "list.csv"
    path.write_text(f"image_path\nimg/0.jpg\n{address}\n")
    with pytest.raises(ConfigError, match=r"list\.csv, row 1 .* must not hold credentials") as error:
        list(open_input(str(path)).tables)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize("address", [WITH_SECRET[0], WITH_SECRET[15]])
def test_a_row_of_a_label_table_is_refused_by_its_line(tmp_path, address):
    (tmp_path / "labels.csv").write_text(f"image_path,hat\nimg/0.jpg,1\n{address},1\n")
    with pytest.raises(ConfigError, match=r"labels\.csv line 3: .* must not hold credentials") as error:
        open_source("table", str(tmp_path)).read_all()
    assert SECRET not in str(error.value)


def test_a_rejected_row_is_not_shown_with_its_credentials(tmp_path):
    (tmp_path / "labels.csv").write_text(f"image_path,hat,url\na.jpg,1,x\nb.jpg,maybe,{WITH_SECRET[15]}\n")
    options = SourceOptions(columns=("hat=hat",))
    _, rejects = open_source("table", str(tmp_path), options=options).read_all()
    assert rejects.counts == {"value": 1}
    assert SECRET not in rejects.describe()


@pytest.mark.parametrize("flag", ["--images", "--output", "--model", "--images=", "--imagez"])
def test_the_command_line_refuses_credentials_before_anything_starts(tmp_path, capfd, caplog, flag):
    caplog.set_level(logging.INFO)
    output = tmp_path / "run"
    words = [f"{flag}{WITH_SECRET[0]}"] if flag.endswith("=") else [flag, WITH_SECRET[0]]
    base = [] if flag == "--output" else ["--output", str(output)]
    code = run_job(LabelConfig, lambda config: pytest.fail("started"), [*base, *words], None)
    shown = capfd.readouterr()
    assert code == 2
    assert shown.err.startswith(f"error: {flag.rstrip('=')}: expected a plain address")
    assert SECRET not in shown.err + shown.out + caplog.text
    assert not output.exists()


def test_a_yaml_file_with_credentials_is_refused(tmp_path, capfd):
    (tmp_path / "c.yaml").write_text(json.dumps({"images": WITH_SECRET[0], "output": str(tmp_path / "run")}))
    assert run_job(LabelConfig, lambda config: 0, ["--config", str(tmp_path / "c.yaml")], None) == 2
    shown = capfd.readouterr()
    assert shown.err.startswith("error: --images: expected a plain address")
    assert SECRET not in shown.err + shown.out


@pytest.mark.parametrize("words", [["status"], ["predict", "--model"], ["export", "labels"]])
def test_the_faceattr_command_refuses_credentials(capfd, words):
    assert main([*words, WITH_SECRET[0]]) == 2
    shown = capfd.readouterr()
    assert "must not hold credentials" in shown.err
    assert SECRET not in shown.err + shown.out
