"""Bridges to other packages: their methods and metrics on models that nibt loads, and nibt's methods inside them.

``classifier`` makes a zero-shot classifier of a model and captions, a module that captum, Quantus and pytorch-grad-cam
take. ``captum``, ``fiftyone``, ``quantus`` and ``shapiq`` need the package of their name. ``training`` shows what a
model looks at while it is trained, and ``repair`` trains it without parts of evidence that it must not read.
``servers`` and ``served_answers`` have models behind a server, of embeddings and of answers; ``loaders`` lets
``nibt.load_generator`` load the latter.
"""
