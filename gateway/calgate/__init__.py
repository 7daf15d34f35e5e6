"""calgate: signs a Windows domain's users in, checks their groups, finds each a CAL, then opens the document server."""
