"""Writing to the atlas what an ingest has made: one transaction, all or nothing."""
