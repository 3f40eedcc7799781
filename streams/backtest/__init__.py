"""`plimsoll backtest`: whether the model's requirements held on days that were not kind to it, and what their adapting is worth."""
