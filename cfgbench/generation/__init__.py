"""From a cell to samples: noise, one sampling loop, guidance, and the arithmetic of it."""
