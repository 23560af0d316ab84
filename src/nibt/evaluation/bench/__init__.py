"""The benchmark: a plan is read and checked, measured chunk by chunk into a store, and reported.

``plan`` and ``choices`` are checked by ``validation``; ``run`` measures one ``cell`` after the other into the
``store``; ``report`` shows the ``summary`` with ``figures`` and the ``headline``.
"""
