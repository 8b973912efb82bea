"""Publishes a run's table again with other thresholds: a new version, made from the scores, without the model."""

from collections.abc import Mapping
from dataclasses import asdict

import pyarrow.compute as pc

from faceattr.attributes import AttributeSet
from faceattr.audit.threshold_file import read_thresholds
from faceattr.config import LabelConfig
from faceattr.data.formats.parquet import decode_table
from faceattr.data.relabel import relabel
from faceattr.data.runs.changes.change import refuse_begun_deletion
from faceattr.data.runs.commit import commit_shard, read_ahead, read_file, shard_key
from faceattr.data.runs.lease import drive
from faceattr.data.runs.run_attributes import Decision, read_attribute_set, read_decisions
from faceattr.data.runs.version import Manifest, RunVersion, read_manifest, read_record
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.open import open_output
from faceattr.data.table_checks import fit_schema
from faceattr.errors import ConfigError


def rethreshold(config: LabelConfig) -> str:
    """Labels a published run again, and publishes the result as its next version. A killed one is resumed.

    Returns:
        The text that the user reads at the end.

    Raises:
        ConfigError: there is no published run, or the thresholds do not fit it.
    """
    from faceattr.reports.label import open_statistics, write_label_report  # noqa: PLC0415 - late: it draws
    from faceattr.reports.strips.label import LabelStrips  # noqa: PLC0415

    run, thresholds = config.rethreshold or "", config.thresholds or ""
    store = open_output(run, config.storage)
    record, base = read_record(store), read_manifest(store)
    if record is None or record.kind not in ("label", "prediction") or base is None:
        raise ConfigError(f"--rethreshold {run}: expected a published label or prediction run; found none there")
    is_label = record.kind == "label"
    if config.thumbnails and not is_label:
        raise ConfigError(f"--thumbnails: {run} is a prediction run, whose versions have no report; leave it out")
    attributes = read_attribute_set(record)
    wanted = read_thresholds(thresholds, config.storage, {each.name: each for each in attributes.attributes})
    standing = read_decisions(record, base)
    if all(standing.get(name, Decision()) == each for name, each in wanted.items()):
        hint = "; for its --thumbnails give the command that labelled the run" if config.thumbnails else ""
        return f"nothing to do: version {base.version} has these thresholds{hint}"
    first = base.files[0]
    schema = decode_table(read_file(store, first), join_uri(store.uri, first.key)).schema
    with drive(store):
        refuse_begun_deletion(store)
        version = RunVersion(store, record, schema, decisions={name: asdict(each) for name, each in wanted.items()})
        changed = _relabel_all(version, base, attributes, wanted)
        statistics = open_statistics(record) if is_label else None
        strips = LabelStrips(version.record, read_decisions(record, version)) if config.thumbnails else None
        manifest = version.verify([each.observe for each in (statistics, strips) if each is not None])
        version.publish(manifest)
        if statistics is not None:
            drawn = None if strips is None else strips.draw(store, config.storage, config.decode)
            write_label_report(store, record, manifest, statistics, drawn)
    return _summarise(version, base, manifest, changed, wanted)


def _relabel_all(
    version: RunVersion, base: Manifest, attributes: AttributeSet, decisions: Mapping[str, Decision]
) -> dict[str, int]:
    """Commits the shards that are not committed yet; returns attribute -> labels that differ from the base version."""
    files = {file.shard: file for file in base.files}
    changed = dict.fromkeys(decisions, 0)
    pending = version.work().pending.tolist()
    for shard, data in read_ahead(lambda shard: read_file(version.store, files[shard]), pending):
        before = decode_table(data, join_uri(version.store.uri, files[shard].key))
        after = relabel(before, attributes, decisions)
        key = shard_key(version.folder, version.record.plan, shard)
        commit_shard(version.store, key, fit_schema(after, version.schema, key))
        for name in decisions:
            # Unknown is a value of its own here; a class index is never negative.
            old, new = (table[name].fill_null(-1) for table in (before, after))
            changed[name] += pc.sum(pc.not_equal(old, new)).as_py() or 0
    return changed


def _summarise(
    version: RunVersion,
    base: Manifest,
    manifest: Manifest,
    changed: Mapping[str, int],
    decisions: Mapping[str, Decision],
) -> str:
    width = max(map(len, changed))
    lines = [manifest.summary]
    for name, count in changed.items():
        lines.append(f"{name:{width}}  {decisions[name]}: {count:,} labels changed")
    lines.append(f"version {base.version} stays; readers now see {version.folder}/*.parquet")
    return "\n".join(lines)
