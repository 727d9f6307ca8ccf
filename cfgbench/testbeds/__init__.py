"""The data of the testbeds: digits, which need no download, and Gaussian mixtures in closed form."""
