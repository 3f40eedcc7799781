"""The valuation of an account a second time, plain and slow: written from docs/model.md alone, it imports nothing of what it checks."""
