"""Ways in for other programs and for people without a terminal: MCP, REST, an approvals page."""
