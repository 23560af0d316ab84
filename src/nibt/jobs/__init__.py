"""Jobs explain many pairs, and write the results into a folder of Parquet files. They are resumable.

``run`` reads a data set in ``chunks``. A ``worker`` explains each chunk, in this process or on a cluster (``ray``). The
worker returns the ``rows`` of a Parquet file, which is written into a folder (``nibt.folder``). ``job`` reads the rows
and records the request.
"""
