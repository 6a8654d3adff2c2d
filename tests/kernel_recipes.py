"""Inputs of the reference numbers of kernels, drawn as their recipes say."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn


def drawn_pair(recipe):
    r = np.random.default_rng(recipe["seed"])
    X = r.standard_normal((recipe["n"], recipe["p"]))
    W = r.standard_normal((recipe["p"], recipe["q"])) / np.sqrt(recipe["p"])
    Y = recipe["signal"] * (X @ W) + r.standard_normal((recipe["n"], recipe["q"]))
    if recipe.get("nonlinear"):
        Y = np.maximum(Y, 0)
    return X + recipe.get("shift", 0.0), Y


def drawn_nets(recipe):
    r = np.random.default_rng(recipe["seed"])
    n, d, h, k = (recipe[name] for name in "ndhk")
    X, y = r.standard_normal((n, d)), r.integers(0, max(k, 2), n)
    first = [
        r.standard_normal((h, d)) / np.sqrt(d),
        0.1 * r.standard_normal(h),
        r.standard_normal((k, h)) / np.sqrt(h),
        0.1 * r.standard_normal(k),
    ]
    delta = recipe["delta"]
    second = [w + delta * r.standard_normal(w.shape) / np.sqrt(w.shape[-1]) for w in first]
    activation = {"relu": nn.ReLU, "tanh": nn.Tanh}[recipe["act"]]
    nets = []
    for weights in (first, second):
        net = nn.Sequential(nn.Linear(d, h), activation(), nn.Linear(h, k)).double()
        for parameter, value in zip(net.parameters(), weights, strict=True):
            parameter.data = torch.from_numpy(value)
        nets.append(net)
    return torch.from_numpy(X), y, nets
