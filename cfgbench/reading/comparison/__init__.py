"""`cfgbench compare`: results folders of two or more experiments, versions or machines, cell by cell."""
