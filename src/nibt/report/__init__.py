"""Reports of results as images, pages and notebook output. This package does not import models."""
