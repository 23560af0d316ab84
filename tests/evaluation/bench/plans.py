"""The smallest plan of a benchmark."""

from typing import Any

SCENES = {"name": "scenes", "options": {"count": 6, "seed": 1}}


BASE: dict[str, Any] = {"models": ["scenes"], "methods": ["nib"], "data": [SCENES], "metrics": ["confidence_drop"]}
