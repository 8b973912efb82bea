"""Empty places for the tests of inputs: a folder, and a store on disk and on S3."""

import pytest

from faceattr.data.stores.open import open_store


@pytest.fixture(params=["local", "s3"])
def place(request, tmp_path):
    """An empty place: its store; `store.uri` is its address."""
    return open_store(str(tmp_path) if request.param == "local" else request.getfixturevalue("s3_uri"))


@pytest.fixture
def folder(tmp_path):
    """An empty local place, for what does not depend on the kind of store."""
    return open_store(str(tmp_path))
