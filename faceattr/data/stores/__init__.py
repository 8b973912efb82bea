"""Stores of whole objects: local folders, S3 and file systems that pyarrow reads. `open.py` chooses one by its URI."""
