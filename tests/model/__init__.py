"""The contract: what every run must show before it is merged. `switchback gate` runs these tests."""
