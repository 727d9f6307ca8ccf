"""Images made elsewhere, by any sampler in any framework: read, put in order, encoded, scored into the same records."""
