"""The page of ``nibt serve``.

``request`` reads and explains the requests of visitors, and ``models`` keeps the loaded models. ``cache`` stores
results, ``limits`` bounds what one visitor may use and ends the computation of a replaced question, and ``guard``
filters HTTP requests. ``server`` starts the page, and ``ui`` builds it (the only file that imports gradio).
"""
