"""The glass: Panel views over the bench. No mathematics happens here; each widget shows what :mod:`vidistill.lab` computed."""
