"""Preparation of images and captions for a tower, and the region of the original image that the tower sees."""
