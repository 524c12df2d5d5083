"""A model packed, signed and checked: the only thing that a server loads."""
