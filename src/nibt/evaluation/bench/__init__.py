"""Benchmarks of explanation methods, described by plans.

``plan_file`` and ``plan`` read a plan, and ``validation`` checks it. ``run`` measures the cells of the plan with
``cell``, and writes their ``rows`` into a folder (``nibt.folder``). ``report`` shows the ``summary`` with ``figures``
and the ``headline``.
"""
