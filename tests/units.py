"""systemd's units, read as tests want them."""

import configparser


def read(path):
    """Sections of a unit file; of a key that is given several times the last value."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(path, encoding="utf-8")
    return parser
