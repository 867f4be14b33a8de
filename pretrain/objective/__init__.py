"""What is learnt: masking, sampling and the losses, random by position and not by history."""
