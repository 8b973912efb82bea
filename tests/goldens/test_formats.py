"""Run folders hold what they held: their files, the keys and types in them, columns and metadata of their tables."""

import pytest

from tests.goldens.compare import list_differences, read_expected
from tests.goldens.fingerprints import collect_fingerprints
from tests.goldens.formats import collect_formats

pytestmark = [pytest.mark.ray, pytest.mark.long]


def test_default_jobs_have_the_fingerprints_that_they_had(placed, ray_local):
    assert list_differences(collect_fingerprints(), read_expected("fingerprints")) == []


def test_run_folders_hold_what_they_held(resumed):
    assert list_differences(collect_formats(), read_expected("formats")) == []
