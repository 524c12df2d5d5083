"""`switchback init`: an existing repository gets the files around its training script that everything else needs."""

from ci_tools.adopt.command import Adopted, adopt

__all__ = ["Adopted", "adopt"]
