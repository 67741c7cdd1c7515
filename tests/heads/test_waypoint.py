"""The waypoint reader helps in training only."""

from __future__ import annotations

from dataclasses import replace

import torch
from miniature import miniature, windows

from costep.heads.waypoint import waypoint_loss
from costep.policy import Policy


def test_invalid_waypoints_do_not_count():
    target = torch.zeros(2, 2, 3)
    predicted = torch.ones(2, 2, 3)
    predicted[1] = 100.0
    valid = torch.tensor([[True, True], [False, False]])
    assert waypoint_loss(predicted, target, valid) == 1.0
    assert waypoint_loss(predicted, target, torch.zeros_like(valid)) == 0.0


def test_labels_reach_the_backbone_and_acting_needs_no_reader():
    config = miniature("composed")
    policy = Policy(replace(config, train=replace(config.train, waypoints=1.0)))
    data = windows(policy.config)
    data |= {
        "waypoints": torch.randn(len(data["state"]), 2, 3),
        "waypoints_valid": torch.ones(len(data["state"]), 2, dtype=torch.bool),
    }
    loss, parts = policy.loss(data)
    plain, _ = policy.loss({k: v for k, v in data.items() if not k.startswith("waypoints")})
    assert torch.allclose(loss, plain + parts["waypoints"])
    policy.waypoints(  # gradient of the aid alone
        next(policy.backbone.layers(policy.backbone.prepare(_observation(data)))), data["state"]
    ).sum().backward()
    assert policy.backbone.vision.position.grad.abs().sum() > 0
    config = replace(policy.config, train=replace(policy.config.train, waypoints=0.0))
    assert Policy(config).waypoints is None


def _observation(data):
    from costep.types import Observation

    return Observation(data["images"], data["state"], tuple(data["instruction"]))
