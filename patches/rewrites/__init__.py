"""The rewrites, one per file; each takes Sources and returns the modules that it changed."""
