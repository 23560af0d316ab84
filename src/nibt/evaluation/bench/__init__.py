"""Benchmark of explanation methods: check a plan, measure it chunk by chunk into a store, and report it.

``plan`` and ``choices`` read a plan and ``validation`` checks it. ``run`` measures the cells of the plan with ``cell``
and writes the measurements into the ``store``. ``report`` shows the ``summary`` with ``figures`` and the ``headline``.
"""
