"""What every job needs around its work: the Ray session, cores, metrics, progress, blocks of rows."""
