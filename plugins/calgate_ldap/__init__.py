"""Asks Active Directory for people, groups and account state."""

role = "directory"
