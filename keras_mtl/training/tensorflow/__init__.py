"""Training steps and task gradients on TensorFlow: the one backend so far."""
