"""People, groups and NT hashes in a file: for demonstrations and small sites."""
