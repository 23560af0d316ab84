"""Jobs: many pairs are explained, chunk by chunk, into a folder that any later run completes.

``run`` reads a data set in ``chunks`` and has each chunk explained by a ``worker``, in this process or on a cluster
(``ray``). The worker returns the ``rows`` of a Parquet file, which the ``store`` keeps. ``job`` reads them back,
``manifest`` records what was requested, and ``contents`` compares the rows with the data set.
"""
