"""Training: rows and environments to learn from, learners, checkpoints, choice on validation windows, tuning.

Needs the extra ``train``.
"""
