"""The samples in the tests' bucket: placed once, resumed once."""

import pytest

from tests.goldens.resume import Outcome, place_all, resume_all


@pytest.fixture(scope="package")
def placed(s3):
    """All samples are in the bucket, as they were stored."""
    place_all()


@pytest.fixture(scope="package")
def resumed(placed, ray_local) -> dict[str, Outcome]:
    """The samples after they were resumed; what each command said."""
    return resume_all()
