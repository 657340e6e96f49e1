"""From pairs to a trained T×V network."""
