"""Which files of a folder are rows, which are counted: by their names alone."""

import pytest

from faceattr.data.inputs.folder_files import FolderFiles, describe_files, extension_of, is_image_name, is_table_name
from faceattr.data.sources.image_names import image_keys
from faceattr.data.stores.local import LocalStore
from faceattr.data.stores.store import ObjectInfo
from faceattr.inference.folder import find_images


def listing(*keys):
    return [ObjectInfo(key=key, num_bytes=1, etag=None, modified_s=0.0) for key in keys]


ROWS = [
    "IMG_0000.HEIC",
    "a/b.jp2",
    "scan.AVIF",
    "raw/DSC1.NEF",
    "x.psd",
    "x.svg",
    "photo",
    "a.b/photo",
    "J. Smith",
    "0123456789abcdef.0123456789abcdef0",
    ".jpg",
    "ends with a dot.",
    "README",
]
OTHER = {
    "a.txt": ".txt",
    "a.JSON": ".json",
    "a.jpg.part": ".part",
    "photo.jpg~": ".jpg~",
    "clip.mov": ".mov",
    ".gitignore": ".gitignore",
    ".git/objects/ab/cdef": ".git/",
    "x/.git/HEAD": ".git/",
}
SKIPPED = {
    ".DS_Store": ".DS_Store",
    "a/.DS_Store": ".DS_Store",
    "._IMG_0001.JPG": "._*",
    "__MACOSX/a/._b.jpg": "._*",
    "Thumbs.db": "Thumbs.db",
    "d/thumbs.DB": "Thumbs.db",
    "desktop.ini": "desktop.ini",
    "Desktop.ini": "desktop.ini",
}


@pytest.mark.parametrize("key", ROWS)
def test_an_image_of_whatever_kind_and_a_file_without_an_ending_are_rows(key):
    files = FolderFiles()
    assert [entry.key for entry in files.rows(listing(key))] == [key]
    assert (files.num_rows, files.other, files.skipped) == (1, {}, {})


@pytest.mark.parametrize(("key", "kind"), OTHER.items())
def test_another_file_is_counted_by_its_ending(key, kind):
    files = FolderFiles()
    assert list(files.rows(listing(key))) == []
    assert (files.num_rows, files.other, files.skipped) == (0, {kind: 1}, {})


@pytest.mark.parametrize(("key", "kind"), SKIPPED.items())
def test_what_an_operating_system_leaves_is_skipped_and_counted(key, kind):
    files = FolderFiles()
    assert list(files.rows(listing(key))) == []
    assert (files.num_rows, files.other, files.skipped) == (0, {}, {kind: 1})
    assert not is_image_name(key)


def test_rows_and_others_and_skipped_are_all_files():
    files = FolderFiles()
    keys = [*ROWS, *OTHER, *SKIPPED]
    assert [entry.key for entry in files.rows(listing(*keys))] == ROWS
    assert files.num_rows + files.other.total() + files.skipped.total() == len(keys)


def test_names_of_a_million_kinds_do_not_fill_the_memory():
    files = FolderFiles()
    list(files.rows(listing(*(f"a.{number}" for number in range(5_000)))))
    assert (len(files.other), files.other.total(), files.other["further endings"]) == (1_001, 5_000, 4_000)


def test_what_the_user_reads_of_them():
    files = FolderFiles()
    entries = files.rows(listing("a.jpg", "b.txt", *(f"{number:04}.json" for number in range(1_200)), ".DS_Store"))
    next(entries)
    assert list(entries) == []
    assert describe_files(files.to_json()) == [
        "other files, no images: 1,201 (.json 1,200, .txt 1)",
        "other files, skipped, of the operating system: 1 (.DS_Store 1)",
    ]
    assert describe_files(None) == []  # a run that began before files were counted
    assert describe_files(FolderFiles().to_json()) == []


def test_a_listing_that_was_not_read_to_its_end_says_so():
    files = FolderFiles()
    entries = files.rows(listing("a.txt", "b.jpg", "c.txt"))
    assert next(entries).key == "b.jpg"
    assert describe_files(files.to_json()) == ["other files, no images: 1 (.txt 1), among the files up to --limit"]


def test_many_kinds_are_told_with_the_commonest():
    files = FolderFiles()
    list(files.rows(listing(*(f"{copy}.{kind}" for kind in "abcdefghij" for copy in range(1 + (kind == "j"))))))
    assert describe_files(files.to_json()) == [
        "other files, no images: 11 (.j 2, .a 1, .b 1, .c 1, .d 1, .e 1, .f 1, .g 1, 2 further)"
    ]


def test_tables_of_a_folder():
    assert [is_table_name(key) for key in ("a.parquet", "b/c.PARQUET", "_x/a.parquet", ".a.parquet", "a.csv")] == [
        *(True, True),
        *(False, False, False),
    ]
    assert extension_of("x.tar.GZ") == ".gz"


def test_runs_and_pack_and_predict_take_the_same_files(tmp_path):
    (tmp_path / "x/.git").mkdir(parents=True)
    for key in ("IMG.HEIC", "photo", "x/a.jpg", "x/a.txt", "._IMG.HEIC", "x/.git/HEAD", "x/.DS_Store"):
        (tmp_path / key).touch()
    (tmp_path / "dangling.png").symlink_to("nowhere")
    (tmp_path / "linked").symlink_to("x")
    rows = ["IMG.HEIC", "dangling.png", "linked/a.jpg", "photo", "x/a.jpg"]
    files = FolderFiles()
    assert sorted(image_keys(LocalStore(tmp_path), "", files)) == rows
    found, others = find_images(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in found] == rows
    assert others == describe_files(files.to_json())
    assert others == [
        "other files, no images: 4 (.git/ 2, .txt 2)",
        "other files, skipped, of the operating system: 3 (.DS_Store 2, ._* 1)",
    ]
