"""The bench: presets, run records, reports, the notebook runner, the recipes of the zoo and the command line. No GUI.

Nothing is imported here, so that ``vidistill --help`` stays quick: import ``vidistill.lab.record`` and its neighbours as needed.
"""
