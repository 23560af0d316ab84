"""The page of ``nibt serve``.

``request`` and ``models`` are what a visitor can ask for and the loaded models, ``cache`` and ``limits`` keep the page
fast and fair, ``guard`` protects it, ``server`` starts it, and ``ui`` shows it (the only file with gradio).
"""
