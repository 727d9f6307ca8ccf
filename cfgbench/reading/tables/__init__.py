"""The reading half: records -> one value, comparisons, CSV rows, Markdown and LaTeX tables. Imports no torch."""
