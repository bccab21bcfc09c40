"""Where the real data sets are, on machines that have them."""

from pathlib import Path

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
"""Beside the repository; what needs it skips without."""
