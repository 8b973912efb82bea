"""Tables of the reports, as Parquet, CSV and text files."""
