"""Lists of rows beside an audit's random sample: rejects, conflicts with given labels, disagreements of two runs."""
