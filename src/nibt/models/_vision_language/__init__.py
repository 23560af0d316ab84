"""What embedders on vision-language models and late interaction share."""
