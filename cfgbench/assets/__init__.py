"""What models, encoders and prompt sets are on disk: where, whether whole, and what they say of themselves."""
