"""A confusion matrix as a picture."""

from geovlm.evaluation import score_labels

picture = score_labels(["Beach", "Port", "Port"], ["Beach", None, "Port"]).plot_confusion("confusion.png")
assert picture.stat().st_size > 1000
