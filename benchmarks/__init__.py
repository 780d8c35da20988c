"""What ingestify costs, next to a loop that only writes bytes: `python -m benchmarks --help`."""
