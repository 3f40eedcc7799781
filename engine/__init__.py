"""The risk engine: a library without I/O, clock or randomness."""
