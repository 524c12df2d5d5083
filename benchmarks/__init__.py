"""Side-by-side measurements: `python -m benchmarks --help`, and README.md beside this file."""
