"""Photo indexes on disk. `flat` is the exact scan: the research path, and the oracle for every other engine."""
