"""Hints become gates: policy, impact, approval, journal, and the one path to a state-changing request."""
