"""From records to what people read: tables, figures, pages, advice. Nothing here imports torch."""
