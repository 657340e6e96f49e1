"""Photo stores with filters, behind one protocol."""
