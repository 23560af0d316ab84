"""The small web page of ``nibt serve``: what it does (``asked``, ``shelf``, ``limits``, ``recent``), how it is guarded
(``guard``), and how it looks (``demo``, the only file with gradio).
"""
