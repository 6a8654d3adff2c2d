"""What papers claim, and how our runs are held to it; one file a family."""
