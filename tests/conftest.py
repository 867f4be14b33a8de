"""Settings every test shares."""

import torch

# The suite runs on two cores, often in two processes: more threads would only fight.
torch.set_num_threads(1)
