"""The gate: policy, impact, approval, journal, and the only code that changes a room."""
