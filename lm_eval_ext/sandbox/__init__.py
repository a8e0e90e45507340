"""A sandbox for programs that nobody has read: see SECURITY.md for what it promises."""
