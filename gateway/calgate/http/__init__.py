"""The client side: connections in, requests read, responses out."""
