"""Articles and photos as stored feature rows; only what is new is encoded."""
