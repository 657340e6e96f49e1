"""From a run to figures: metrics, significance, tables, submissions, contact sheets."""
