"""Plans how many CALs to buy: replays real histories with other numbers of CALs. README.md explains the method."""
