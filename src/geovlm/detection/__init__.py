"""From words to places: scan a georeferenced raster for anything you can name."""

from __future__ import annotations

from geovlm.detection.calibration import Calibration, calibrate
from geovlm.detection.detections import Detection, Detections, HeatMap
from geovlm.detection.scanning import scan

__all__ = ["Calibration", "Detection", "Detections", "HeatMap", "calibrate", "scan"]
