"""The trackers can be imported; what they are sent is tested with the trainer."""

import tensorboard
import wandb

assert tensorboard.__name__
assert wandb.__name__
