"""The benchmark: a plan is read and checked, measured chunk by chunk into a store, and reported.

``plan`` <- ``choices``, ``checks``, ``store`` <- ``work``, ``running`` <- ``reporting`` and what it is made of.
"""
