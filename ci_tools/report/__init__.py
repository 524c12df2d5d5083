"""What people are told about a run."""
