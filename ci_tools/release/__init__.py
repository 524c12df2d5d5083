"""Bundles, serving, traffic, the judge and the controller: from a bundle to a champion, by evidence."""
