"""Prismatic's towers: timm's own features, what never runs, pixels, cameras, FiLM."""

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from miniature import change, observe, pick
from PIL import Image
from small_prismatic import build, small

from costep.backbones.frames import fit
from costep.backbones.prismatic_vision import TwoTowers, normalise, towers


@pytest.fixture
def config():
    return small()


@pytest.fixture
def backbone(config):
    return build(config)


@pytest.fixture
def frames():
    random = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=random)


def by_hand(frames, mean, std):
    mean, std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)
    return (frames / 255 - mean) / std


@torch.no_grad()
def test_features_equal_timm(backbone, frames):
    """Both whole models run to their end; a hook takes the second-to-last block."""
    taken = []
    for tower, vit in zip(backbone.vision.specs, (backbone.vision.dino, backbone.vision.siglip)):
        reference = timm.create_model(
            tower.name, num_classes=0, img_size=32, patch_size=8, embed_dim=tower.width,
            depth=tower.layers, num_heads=tower.heads,
        ).eval()  # fmt: skip
        reference.load_state_dict(vit.state_dict())
        reference.blocks[-2].register_forward_hook(lambda m, i, o: taken.append(o))
        reference(by_hand(frames, tower.mean, tower.std))
    dino, siglip = taken
    assert dino.shape[1] == 5 + 16  # class token and four registers before the patches
    expected = torch.cat([dino[:, 5:], siglip], -1)
    assert torch.allclose(backbone.vision(frames), expected, atol=1e-5)
    assert expected.shape[-1] == backbone.info.raw_width == 24 + 26


@torch.no_grad()
def test_what_the_reference_never_uses_never_runs(backbone, frames):
    expected = backbone.vision(frames)
    dino, siglip = backbone.vision.dino, backbone.vision.siglip
    unused = (dino.blocks[-1], dino.norm, siglip.blocks[-1], siglip.norm, siglip.attn_pool)
    for part in unused:
        for weight in part.parameters():
            weight.fill_(torch.nan)
    assert torch.equal(backbone.vision(frames), expected)


def test_each_tower_has_its_own_pixels(config, frames):
    dino, siglip = towers(config.backbone.sizes)
    for tower in (dino, siglip):
        expected = by_hand(frames, tower.mean, tower.std)
        assert torch.allclose(normalise(frames, tower), expected, atol=1e-6)
    assert dino.mean == (0.484375, 0.455078125, 0.40625)
    assert dino.std == (0.228515625, 0.2236328125, 0.224609375)
    assert siglip.mean == siglip.std == (0.5, 0.5, 0.5)


# ---- cameras -------------------------------------------------------------------------------------
@torch.no_grad()
def test_cameras_do_not_overwrite_each_other(config):
    """Three cameras, three slots; each slot is what its camera alone gives."""
    config = change(config, cameras=("agent", "left", "right"))
    backbone, seen = build(config), observe(config)
    raw = backbone.prepare(seen).layout.raw_vision
    assert raw.shape == (2, 48, 50)
    for slot, name in enumerate(config.cameras):
        alone = backbone.vision(seen.images[name])
        assert torch.allclose(raw[:, 16 * slot : 16 * (slot + 1)], alone, atol=1e-6)
    other = {**seen.images, "left": 255 - seen.images["left"]}
    changed = backbone.prepare(replace(seen, images=other)).layout.raw_vision
    moved = (raw - changed).abs().amax((0, 2)) > 1e-4
    assert moved.tolist() == [False] * 16 + [True] * 16 + [False] * 16


@torch.no_grad()
def test_the_order_of_the_observation_does_not_matter(config, backbone):
    seen = observe(config)
    swapped = replace(seen, images=dict(reversed(seen.images.items())))
    a, b = (backbone.prepare(s).layout.raw_vision for s in (seen, swapped))
    assert torch.equal(a, b)


@torch.no_grad()
def test_larger_frames_are_resized(config, backbone):
    seen = observe(config)
    large = {c: F.interpolate(x.float(), scale_factor=2).byte() for c, x in seen.images.items()}
    patches = backbone.prepare(replace(seen, images=large)).layout.raw_vision
    assert patches.shape == (2, 32, 50)
    assert torch.isfinite(patches).all()


def test_resizing_is_what_pil_does():
    """Bicubic with antialiasing on whole levels; PIL rounds between its two passes."""
    rows, columns = torch.linspace(0, 9, 48)[:, None], torch.linspace(0, 7, 60)
    waves = torch.stack([(rows * f).sin() * (columns + f).cos() for f in (0.5, 1.0, 1.5)])
    frame = (waves * 100 + 128).to(torch.uint8)
    image = Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy())
    resized = np.array(image.resize((32, 32), Image.Resampling.BICUBIC))
    expected = torch.from_numpy(resized).permute(2, 0, 1)
    assert (fit(frame[None], 32)[0].int() - expected.int()).abs().max() <= 1


def test_a_missing_camera_is_named(config, backbone):
    seen = observe(config)
    with pytest.raises(KeyError, match="camera 'wrist' is missing"):
        backbone.prepare(replace(seen, images={"agent": seen.images["agent"]}))


# ---- FiLM: the pictures are looked at with the instruction in mind -------------------------------
def film_by_hand(vit, films, pixels, said):
    x = vit.norm_pre(vit._pos_embed(vit.patch_embed(pixels)))
    for block, film in zip(vit.blocks[:-1], films, strict=True):
        x = x + block.ls1(block.attn(block.norm1(x)))
        gamma, beta = (said @ film.scale_shift.weight.T + film.scale_shift.bias).chunk(2, -1)
        x = x * (1 + gamma[:, None]) + beta[:, None]
        x = x + block.ls2(block.mlp(block.norm2(x)))
    return x[:, vit.num_prefix_tokens :]


def filmed(config):
    backbone = build(change(config, backbone__film=True))
    for film in backbone.vision.films.modules():
        if isinstance(film, torch.nn.Linear):
            torch.nn.init.normal_(film.weight, std=0.5)
    return backbone


@torch.no_grad()
def test_film_sits_between_attention_and_mlp_of_every_block(config, frames):
    vision, said = filmed(config).vision, torch.randn(3, 32)
    expected = [
        film_by_hand(vit, films, normalise(frames, tower), said)
        for vit, films, tower in zip((vision.dino, vision.siglip), vision.films, vision.specs)
    ]
    assert torch.allclose(vision(frames, said), torch.cat(expected, -1), atol=1e-5)


@torch.no_grad()
def test_film_starts_as_no_film(config, frames):
    bare, film = TwoTowers(config.backbone.sizes), TwoTowers(config.backbone.sizes, 32)
    film.load_state_dict(bare.state_dict(), strict=False)
    assert torch.allclose(bare(frames), film(frames, torch.randn(3, 32)), atol=1e-6)


@torch.no_grad()
def test_film_hears_the_mean_of_the_words_and_no_padding(config):
    backbone = filmed(config)
    seen = replace(observe(config), instruction=("press", "pick up the red cube now and here"))
    raw = backbone.prepare(seen).layout.raw_vision
    alone = backbone.prepare(pick(seen, 0)).layout.raw_vision
    assert torch.allclose(raw[:1], alone, atol=1e-5)
    other = backbone.prepare(replace(seen, instruction=("press",) * 2)).layout.raw_vision
    assert (raw[1] - other[1]).abs().max() > 1e-3
