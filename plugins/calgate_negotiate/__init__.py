"""Signs people in by HTTP Negotiate and NTLM."""
