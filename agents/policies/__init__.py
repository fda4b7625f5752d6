"""Policies: what they offer, the built-in and trained ones, predictors, and how any is loaded by its name."""
