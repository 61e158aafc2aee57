"""The approvals page. In a browser, people see the room, decide on actions and read the journal."""
