"""A desk's photos, kept: archive, database, ingestion, maintenance."""
