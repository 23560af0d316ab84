"""The page of ``nibt serve``.

``request`` reads and explains the requests of visitors. ``cache`` keeps loaded models and results, ``limits`` bounds
what one visitor may use and ends the computation of a replaced question, and ``guard`` filters HTTP requests.
``server`` starts the page, and ``ui`` builds it, with the ``events`` of its fields (only these two import gradio).
"""
