"""What geovlm costs and what it is worth, beside what a user would run instead; `python -m benchmarks --list`."""
