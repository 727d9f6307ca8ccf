"""Training of the small networks cfgbench ships; one module per testbed, started by `cfgbench train <testbed>`."""
