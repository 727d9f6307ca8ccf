"""Guidance methods beyond CFG and classifier guidance, each a function of a step; `table.py` lists all of them."""
