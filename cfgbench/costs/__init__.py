"""What a second model costs: `measure` trains and samples a little and counts code, `record` is what others read."""
