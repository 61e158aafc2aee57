"""The gate: only this code changes rooms. It has the policy, the approvals and the journal."""
