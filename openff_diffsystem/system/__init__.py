"""Systems: the data of a system, and the functions that take one."""
