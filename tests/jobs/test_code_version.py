"""A worker with other code than the driver's is refused."""

import dataclasses

import pytest

from faceattr.errors import RunError
from faceattr.jobs.cluster.code_version import (
    CodeHere,
    check_nodes,
    check_same_code,
    compute_code_version,
    describe_code,
)
from faceattr.jobs.cluster.recipe import ActorRecipe

ELSEWHERE = CodeHere(version="0.0.9+000000000000", folder="/opt/faceattr/faceattr", host="worker-7")


def test_the_version_changes_with_every_source_and_its_name(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c.py").write_text("y = 2\n")
    first = compute_code_version(tmp_path, "1.0")
    assert first.startswith("1.0+")
    assert len(first) == len("1.0+") + 12
    (tmp_path / "notes.txt").write_text("not code")
    assert compute_code_version(tmp_path, "1.0") == first
    (tmp_path / "a.py").write_text("x = 3\n")
    changed = compute_code_version(tmp_path, "1.0")
    (tmp_path / "a.py").rename(tmp_path / "d.py")
    assert len({first, changed, compute_code_version(tmp_path, "1.0"), compute_code_version(tmp_path, "1.1")}) == 4


def test_another_machine_with_other_code_is_refused():
    here = describe_code()
    check_same_code(here)
    check_same_code(here, dataclasses.replace(ELSEWHERE, version=here.version))
    check_same_code(here, dataclasses.replace(here, version="edited while the job runs"))
    with pytest.raises(RunError, match=r"but worker-7 runs 0.0.9\+000000000000 from /opt/faceattr/faceattr. Give all"):
        check_same_code(here, ELSEWHERE)


def test_an_actor_refuses_to_be_built_by_other_code():
    recipe = ActorRecipe("collections:OrderedDict", {})
    assert recipe() == {}
    with pytest.raises(RunError, match=r"the driver runs faceattr 0.0.9\+000000000000"):
        dataclasses.replace(recipe, code=ELSEWHERE)()


@pytest.mark.ray
def test_the_nodes_of_a_cluster_are_asked(ray_local):
    check_nodes()
