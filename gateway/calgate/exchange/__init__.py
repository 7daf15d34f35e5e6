"""One request and what becomes of it: the four questions, and exchanges that need no task or stay open."""
