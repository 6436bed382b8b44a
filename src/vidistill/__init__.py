"""vidistill: a Jupyter-first lab for video distillation and guided video sampling.

Importing the package loads nothing heavy; each room (``vidistill.data``, ``vidistill.codec``, ...) is imported on its own.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("vidistill")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
