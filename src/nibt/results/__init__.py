"""Results as plain frozen dataclasses, independent of models and of drawing."""
