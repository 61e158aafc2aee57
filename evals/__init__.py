"""How well an agent moderates with these tools, and what gets past them: scenarios, people, scores."""
