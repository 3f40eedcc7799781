"""The demo: the crash of 10 October 2025, through a real broker."""
