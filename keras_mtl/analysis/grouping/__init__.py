"""Which tasks belong together: networks within a budget."""
