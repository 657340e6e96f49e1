"""Articles as texts for an encoder: language, translation, cleaning, spelling."""
