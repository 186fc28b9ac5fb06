"""Systems: what they hold, and the functions of one."""
