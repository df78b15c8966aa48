"""What the commands do with their options; imported when a command runs."""
