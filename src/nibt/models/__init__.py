"""CLIP-like models behind one contract, which ``base.py`` defines; each other module implements it for one family."""
