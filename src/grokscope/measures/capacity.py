"""Manifold capacity: how many classes a layer lets a linear readout tell apart.

- :func:`mean_field_capacity`: capacity, radius and dimension of independent manifolds, with
  correlations of their centers removed; :func:`anchor_geometry` of one manifold at given probes.
- :func:`glue_capacity`: the joint capacity for a task, with its effective geometry.
- :func:`simulated_capacity`: the capacity found by trial.
- :func:`ball_capacity`, :func:`ball_radius`, :func:`point_capacity`: what theory knows.
- :func:`class_manifolds`: activations of each class as one manifold.
"""

from grokscope.measures.anchor_geometry import AnchorGeometry, anchor_geometry
from grokscope.measures.capacity_theory import ball_capacity, ball_radius, point_capacity
from grokscope.measures.glue import GlueCapacity, glue_capacity
from grokscope.measures.manifolds import class_manifolds
from grokscope.measures.mean_field import MeanFieldCapacity, WarmStart, mean_field_capacity
from grokscope.measures.simulated_capacity import SimulatedCapacity, simulated_capacity

__all__ = [
    "AnchorGeometry",
    "GlueCapacity",
    "MeanFieldCapacity",
    "SimulatedCapacity",
    "WarmStart",
    "anchor_geometry",
    "ball_capacity",
    "ball_radius",
    "class_manifolds",
    "glue_capacity",
    "mean_field_capacity",
    "point_capacity",
    "simulated_capacity",
]
