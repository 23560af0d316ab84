"""Bridges to other packages: their methods and metrics on models that nibt loads, and nibt's methods inside them.

``classifier`` makes a zero-shot classifier of a model and captions, a module that captum, Quantus and pytorch-grad-cam
take. ``captum``, ``fiftyone``, ``quantus`` and ``shapiq`` need the package of their name. ``label_studio`` suggests
masks and boxes to annotators. ``training`` shows what a
model looks at while it is trained, and ``lightning`` does so as a callback of that package. ``repair`` trains a model
without parts of evidence that it must not read. ``tracking`` logs results into runs of trackers.
``servers`` and ``served_answers`` have models behind a server, of embeddings and of answers; ``loaders`` lets
``nibt.load_generator`` load the latter.
"""
