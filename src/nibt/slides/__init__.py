"""Explanations of images too large for one view of a model, such as whole slides of pathology, tile by tile."""
