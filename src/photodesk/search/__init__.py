"""Answers: photos for the articles of a data set, or for one article from an index or an archive."""
