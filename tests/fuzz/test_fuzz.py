"""The fuzz targets on their seeds and on a few hundred edits of them; `make fuzz` runs them for minutes."""

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.documents import ROOT
from tests.fuzz.run import TARGETS, load
from tests.fuzz.target import inputs

# Pillow warns of damaged metadata.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::DeprecationWarning:PIL")


def test_every_file_of_the_folder_is_a_target():
    others = {"run", "target", "test_fuzz"}
    assert {path.stem for path in (ROOT / "tests" / "fuzz").glob("*.py")} - others == set(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_edits_raise_nothing_that_is_not_documented(name):
    target = load(name)
    for seed in target.seeds():
        target.run(seed)

    # The same ones at each run, so that the suite fails only for a change of the code.
    @settings(
        max_examples=25,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs(target))
    def check(data):
        target.run(data)

    check()
