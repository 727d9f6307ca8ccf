"""One module per command: `add` gives it its options, and what it needs is imported when it runs."""
