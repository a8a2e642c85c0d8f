"""An encoder that needs no torch, for tests that start processes; it writes down what it was given."""

from __future__ import annotations

import hashlib
import os
import time

import numpy as np


class Light:
    """A `PixelEncoder`: the mean colour of the four quarters.

    `log` is a file that gets one line a forward pass, with a digest of each image's pixels; a line is there before its
    pass is over, so that a killed process has told all that it did. `pause` is how long a pass takes.
    """

    name, dim, image_size, logit_scale = "light", 12, 8, 100.0

    def __init__(self, *, log=None, pause=0.0, fingerprint="light-1"):
        self.log, self.pause, self.fingerprint = log, pause, fingerprint

    def preprocess(self, image):
        return np.array(image.resize((self.image_size, self.image_size)))

    def encode_pixels(self, pixels):
        if self.log is not None:
            line = " ".join(hashlib.sha256(one.tobytes()).hexdigest()[:12] for one in pixels) + "\n"
            descriptor = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(descriptor, line.encode())
            os.close(descriptor)
        time.sleep(self.pause)
        half = self.image_size // 2
        quarters = pixels.reshape(len(pixels), 2, half, 2, half, 3).mean(axis=(2, 4)).reshape(len(pixels), -1) + 1
        return (quarters / np.linalg.norm(quarters, axis=1, keepdims=True)).astype(np.float32)

    def encode_images(self, images):
        return self.encode_pixels(np.stack([self.preprocess(image) for image in images]))

    def encode_texts(self, texts):
        return np.full((len(texts), self.dim), self.dim**-0.5, dtype=np.float32)
