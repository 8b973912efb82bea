"""`make sbom`: the lock as a CycloneDX bill of materials. It is the same bytes on every machine.

    python -m tests.sbom requirements.lock sbom.json

By the library of CycloneDX: its command line brings along packages that make every `import ray` 2.5 s slower, since
jsonschema loads them where they are installed.
"""

import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

_PACKAGE = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>[^ ;\\]+)(?: ; (?P<marker>[^\\\n]+?))? ?\\\n", re.MULTILINE)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def read_components(lock: str) -> Iterator[Component]:
    """The packages of a lock file, in its order, each with the hashes of its files."""
    found = list(_PACKAGE.finditer(lock))
    for each, after in zip(found, [*found[1:], None], strict=True):
        hashes = _HASH.findall(lock, each.end(), after.start() if after else len(lock))
        purl = PackageURL("pypi", name=each["name"], version=each["version"])
        yield Component(
            name=each["name"],
            version=each["version"],
            type=ComponentType.LIBRARY,
            purl=purl,
            bom_ref=str(purl),
            properties=[Property(name="marker", value=each["marker"])] if each["marker"] else [],
            external_references=[
                ExternalReference(
                    type=ExternalReferenceType.DISTRIBUTION,
                    url=XsUri(str(purl)),
                    hashes=[HashType(alg=HashAlgorithm.SHA_256, content=content) for content in hashes],
                )
            ],
        )


def write_sbom(lock: Path, project: Path, output: Path) -> None:
    """Writes the bill of materials of a project's lock file."""
    about = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    root = Component(
        name=about["name"],
        version=about["version"],
        type=ComponentType.LIBRARY,
        description=about["description"],
        licenses=[DisjunctiveLicense(id=about["license"])],
        bom_ref=about["name"],
    )
    bom = Bom(components=read_components(lock.read_text(encoding="utf-8")))
    bom.metadata.component = root
    bom.register_dependency(root, bom.components)
    facts = json.loads(JsonV1Dot6(bom).output_as_string())
    del facts["serialNumber"], facts["metadata"]["timestamp"]  # they would differ each time
    output.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_sbom(Path(sys.argv[1]), Path(__file__).parents[1] / "pyproject.toml", Path(sys.argv[2]))
