"""Which task's data comes next."""
