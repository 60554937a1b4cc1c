"""Training SAEs of every architecture: what trains them, and which of them one ingest trains."""
