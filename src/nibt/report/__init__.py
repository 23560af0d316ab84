"""From an explanation to what people look at. Nothing here knows a model."""
