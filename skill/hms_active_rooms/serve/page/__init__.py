"""The approvals page: who is in the room, what waits for a person, and the journal, in a browser."""
