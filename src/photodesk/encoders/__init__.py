"""Encoders: a text tower and a photo tower in one space, behind one protocol."""
