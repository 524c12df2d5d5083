"""The model under CI: risk scoring on tabular events. A team replaces this folder with its own."""
