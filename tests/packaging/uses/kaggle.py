"""The client of Kaggle can be imported; its downloads need the network."""

import kagglehub

assert kagglehub.__name__
