"""From embeddings to ranked photos: similarity, top k, revisions, fusion."""
