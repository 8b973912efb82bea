"""What every job does around its work: the Ray session, cores, metrics, progress, blocks of rows."""
