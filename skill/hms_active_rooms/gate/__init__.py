"""The gate, with policy, approvals and journal. Only this code changes rooms."""
