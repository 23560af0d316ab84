"""A job: many pairs are explained, chunk by chunk, into a folder that any later run completes.

``source`` <- ``tables``, ``tars``, ``folders``, ``saved``, ``sets`` <- ``opening``; ``chunks`` and ``shards`` <-
``work``, ``store`` <- ``job`` <- ``distributed`` (the only file with ray) <- ``running``.
"""
