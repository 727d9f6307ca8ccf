"""`cfgbench recommend`: which scale, sampler, steps and dtype to use within a budget. `rules` says how it chooses."""
