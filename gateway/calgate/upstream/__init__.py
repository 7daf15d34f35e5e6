"""The document servers: connections, requests sent, responses read."""
