"""From which tasks others can be learned: transfer maps after Taskonomy."""
