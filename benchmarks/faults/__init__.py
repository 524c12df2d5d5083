"""The bench that keeps the gates honest: faults planted in small training runs, and who notices them."""
