"""The rows of the papers' tables: read, prepared, run, ablated."""
