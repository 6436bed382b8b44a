"""One paper, one file: each declares its ``KNOBS`` and a ``run()`` that reads from top to bottom."""
