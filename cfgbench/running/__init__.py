"""From a plan to records: who works, on what, in which order, and what it costs."""
