"""A job: many pairs are explained, chunk by chunk, into a folder that any later run completes.

``run`` reads a source (``sources``) in ``chunks``, and has each chunk explained by a ``worker``, here or on a cluster
(``ray``); the worker gives the ``rows`` of a Parquet file, which the ``store`` keeps. ``job`` reads them back, and
``contents`` compares them with the source.
"""
