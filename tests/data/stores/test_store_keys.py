"""Keys relative to a store's root: which are refused, and how an address is split."""

import os
from pathlib import Path

import pytest

from faceattr.data.stores.keys import check_key, join_uri, split_uri


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("", "empty"),
        ("s3://other/a.jpg", "scheme"),
        ("http://example.org/a.jpg", "scheme"),
        ("/etc/passwd", "absolute"),
        ("../a.jpg", "leaves"),
        ("a/../../b.jpg", "leaves"),
        ("a/..", "leaves"),
        ("a\nb.jpg", "control"),
        ("a\x00b.jpg", "control"),
        ("a\x7fb.jpg", "control"),
    ],
)
def test_keys_that_leave_the_root_or_hide_something(key, problem):
    assert problem in check_key(key)


@pytest.mark.parametrize("key", ["a.jpg", "a/b.jpg", "a..b/c..jpg", "...", "ä/ .jpg", "a:b//c.jpg"])
def test_keys_that_are_fine(key):
    assert check_key(key) is None


@pytest.mark.parametrize(
    ("uri", "root", "key"),
    [
        ("s3://bucket/a/list.csv", "s3://bucket/a", "list.csv"),
        ("/data/list.csv", "/data", "list.csv"),
        ("/list.csv", "/", "list.csv"),
        ("list.csv", ".", "list.csv"),
    ],
)
def test_split_uri(uri, root, key):
    assert split_uri(uri) == (root, key)
    assert Path(os.path.normpath(join_uri(root, key))) == Path(os.path.normpath(uri))
