"""geovlm: find, describe and detect anything you can name in satellite and aerial imagery."""
