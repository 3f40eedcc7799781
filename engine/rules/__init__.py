"""What each venue would do to its own leg by its own published rule; each module is one protocol."""
