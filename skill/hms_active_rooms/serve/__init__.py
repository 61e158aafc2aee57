"""A server for other programs (MCP and REST), and for people who approve on a web page."""
