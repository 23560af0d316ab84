"""Benchmarks of explanation methods, described by plans.

``plan`` reads a plan, and ``validation`` checks it. ``run`` measures the cells of the plan with ``cell``, and writes
their ``rows`` into a folder (``nibt.folder``). ``report`` shows the ``summary`` with ``figures`` and the ``headline``.
"""
