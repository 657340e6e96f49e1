"""Data sets as their makers wrote them: tables, editions, photo folders, checks, downloads."""
