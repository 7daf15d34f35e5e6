"""May you have this? Rules, groups, hours; no HTTP, no store, no directory, no CAL."""
