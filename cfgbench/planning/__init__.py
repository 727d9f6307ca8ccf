"""From an experiment file to cells with ids: nothing here imports torch."""
