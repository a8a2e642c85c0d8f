"""The long calls on many machines: `embed(…, engine=RayEngine(workers=8))`, on Ray Data.

Training needs nothing from here: `ContrastiveTrainer` joins the processes that torchrun or Ray Train started.
"""

from __future__ import annotations

from geovlm.distributed.ray_engine import RayEngine

__all__ = ["RayEngine"]
