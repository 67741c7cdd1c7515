"""The waypoint reader helps in training only."""

from __future__ import annotations

from dataclasses import replace

import torch
from miniature import miniature, windows

from costep.heads.waypoint import SCALE, Votes, waypoint_error, waypoint_loss
from costep.policy import Policy
from costep.types import Observation


def votes(sure, offset):
    return Votes(torch.tensor([[sure]]).log_softmax(-1), torch.tensor([[offset]]))


def test_invalid_waypoints_do_not_count():
    target, valid = torch.zeros(2, 2, 3), torch.tensor([[True, True], [False, False]])
    some = Votes(torch.full((2, 2, 4), 0.25).log(), torch.ones(2, 2, 4, 3))
    some.offset[1] = 100.0
    assert waypoint_error(some, target, valid) == 1.0
    torch.testing.assert_close(waypoint_loss(some, target, valid), torch.tensor(2.0))
    assert waypoint_loss(some, target, torch.zeros_like(valid)) == 0.0


def test_the_patch_that_knows_learns_and_the_others_need_not():
    """Near one vote the likelihood ignores the far ones; a lone mean would pull at all of them."""
    sure, target = [0.0, 0.0], torch.zeros(1, 1, 3)
    some = votes(sure, [[0.01, 0.0, 0.0], [5.0, 5.0, 5.0]])
    some.offset.requires_grad_()
    error = (some.offset - target[:, :, None]).abs().mean(-1)
    (-SCALE * torch.logsumexp(some.log_share - error / SCALE, -1)).sum().backward()
    near, far = some.offset.grad.abs().sum(-1).flatten().tolist()
    assert near > 0.3
    assert far < 1e-6


def test_likelihood_by_hand():
    some, target = votes([1.0, -1.0], [[0.1, 0, 0], [0, 0, 0.6]]), torch.zeros(1, 1, 3)
    share = torch.tensor([1.0, -1.0]).softmax(0)
    density = (share * torch.exp(-torch.tensor([0.1, 0.6]) / 3 / SCALE)).sum()
    mean = (share[0] * 0.1 + share[1] * 0.6) / 3
    expected = -SCALE * density.log() + mean
    valid = torch.ones(1, 1, dtype=torch.bool)
    torch.testing.assert_close(waypoint_loss(some, target, valid), expected)


def test_an_absent_camera_has_no_vote():
    policy = Policy(_with_waypoints(miniature("composed")))
    data = windows(policy.config)
    tap = next(policy.backbone.layers(policy.backbone.prepare(_observation(data))))
    valid = tap.layout.vision_valid.clone()
    valid[:, : valid.shape[1] // 2] = False
    tap = replace(tap, layout=replace(tap.layout, vision_valid=valid))
    share = policy.waypoints(tap, data["state"]).log_share.exp()
    assert share[..., : valid.shape[1] // 2].max() == 0
    torch.testing.assert_close(share.sum(-1), torch.ones(share.shape[:2]))


def test_labels_reach_the_backbone_and_acting_needs_no_reader():
    policy = Policy(_with_waypoints(miniature("composed")))
    data = windows(policy.config)
    data |= {
        "waypoints": torch.randn(len(data["state"]), 2, 3),
        "waypoints_valid": torch.ones(len(data["state"]), 2, dtype=torch.bool),
    }
    loss, parts = policy.loss(data)
    plain, _ = policy.loss({k: v for k, v in data.items() if not k.startswith("waypoints")})
    assert torch.allclose(loss, plain + parts["waypoints"])
    tap = next(policy.backbone.layers(policy.backbone.prepare(_observation(data))))
    policy.waypoints(tap, data["state"]).mean.sum().backward()  # gradient of the aid alone
    assert policy.backbone.vision.position.grad.abs().sum() > 0
    config = replace(policy.config, train=replace(policy.config.train, waypoints=0.0))
    assert Policy(config).waypoints is None


def _with_waypoints(config):
    return replace(config, train=replace(config.train, waypoints=1.0))


def _observation(data):
    return Observation(data["images"], data["state"], tuple(data["instruction"]))
