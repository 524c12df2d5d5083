"""`switchback init` on repositories that know nothing of it."""
