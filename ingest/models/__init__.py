"""Language models: loading them, where in them something is read, and reading it."""
