"""Goldens: what a user can see of the formats, flags, scores and losses, stored, so that no change moves them unseen.

    expected/*.json     what the code must give: fingerprints, run folders, scores, losses, flags
    samples/            run folders that faceattr 0.1.0 wrote, published, unfinished and trained; each opens and resumes

The tests only read these files. `python -m tests.goldens.write` writes `expected/`: all of it, or the names that it is
given. It may be run only for a deliberate change of a format, a flag or a result; the CHANGELOG then says so in the
same commit, and a format that an older faceattr cannot read has a higher `schema_version`. Moving or renaming code is
no such change.

`samples/` is never written again: a sample is worth what it is because an older version wrote it. A new format gets new
samples beside the old ones (`tests/goldens/make_samples.py` says how these were made).

Addresses in the samples name the bucket that the tests' own S3 server has, `s3://faces/goldens/...`, so the
samples are read as they are, on any machine.
"""
