"""The model registry as serving sees it: which version an alias points at, a local copy of it, and following it."""
