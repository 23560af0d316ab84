"""CLIP-like models behind one contract: ``base.py`` states it, each other part meets it for one family."""
