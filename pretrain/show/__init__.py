"""What a model makes of a text: fillings of its masks, and which tokens look replaced."""
