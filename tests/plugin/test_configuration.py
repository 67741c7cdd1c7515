"""CostepConfig: every preset through config.json, choices on top of it, and what is refused."""

import json
from dataclasses import fields, replace

import pytest
import torch
from lerobot_like import make_contract
from miniature import make, miniature

pytest.importorskip("lerobot")
pytestmark = pytest.mark.slow

import draccus  # noqa: E402
from lerobot.configs import NormalizationMode, PreTrainedConfig  # noqa: E402

from costep.config import Head, PolicyConfig  # noqa: E402
from costep.plugin import configuration_costep  # noqa: E402
from costep.plugin.configuration_costep import CHOICES_OF_THE_RUN, CostepConfig  # noqa: E402
from costep.plugin.overlay import overlay  # noqa: E402
from costep.presets import PRESETS, preset  # noqa: E402
from costep.train import layout, optim  # noqa: E402
from costep.train.checkpoint import write_json, write_model  # noqa: E402

ALL = [(name, size) for name in PRESETS for size in ("tiny", "small", "full")]


def configured(**values):
    return CostepConfig(device="cpu", **values)


def from_command_line(*arguments):
    return draccus.parse(CostepConfig, args=["--device=cpu", *arguments])


def loaded(folder, *overrides):
    return PreTrainedConfig.from_pretrained(folder, cli_overrides=list(overrides))


@pytest.mark.parametrize(("name", "size"), ALL)
def test_every_preset_survives_both_writers(name, size, tmp_path):
    config = configured(preset=name, size=size)
    assert config.to_policy_config() == preset(name, size)
    config._save_pretrained(tmp_path)
    assert loaded(tmp_path).to_policy_config() == preset(name, size)
    data = json.loads((tmp_path / "config.json").read_text())
    assert layout.from_json(data, "here") == preset(name, size)


@pytest.mark.parametrize("name", PRESETS)
def test_it_loads_what_costep_train_writes(name, tmp_path):
    config = replace(
        miniature(name), n_action_steps=3, exits=replace(miniature(name).exits, probe=None)
    )
    write_model(tmp_path, make(config), make_contract(config))
    found = loaded(tmp_path)
    assert isinstance(found, CostepConfig)
    assert found.to_policy_config() == config  # a None in the file is not filled from the preset
    assert found.input_features["observation.images.wrist"].shape == (3, 40, 40)


def test_a_file_of_format_version_1_still_loads(tmp_path):
    """Fields are only ever added: a file from before the last one was added gets its default."""
    data = layout.to_json(preset("composed"), make_contract(preset("composed")))
    del data["train"]["state_mask"], data["head"]["focus"]["quota"]
    write_json(tmp_path / "config.json", data)
    assert loaded(tmp_path).to_policy_config() == preset("composed")


def test_choices_on_the_command_line():
    config = from_command_line(
        "--preset=composed", "--head.fusion=sum", "--exits.probe=unset",
        "--head.focus.top_k_frac=unset", "--head.focus.top_k=3", "--exits.layers=[2,5]",
        "--head.gate.layers=[2,3]", "--head.chunk_embed=false", "--cameras=[agent]",
    ).to_policy_config()  # fmt: skip
    assert config.head.fusion == "sum"
    assert config.exits.probe is None
    assert (config.head.focus.top_k, config.head.focus.top_k_frac) == (3, None)
    assert config.exits.layers == (2, 5)
    assert config.head.gate.layers == (2, 3)
    assert config.head.chunk_embed is False
    assert config.cameras == ("agent",)


def test_an_illegal_combination_is_the_cores_error():
    with pytest.raises(ValueError, match="mixed attention has one joint"):
        configured(preset="composed", head=overlay(Head)(fusion="joint"))


def test_unknown_keys_and_values_are_refused(tmp_path):
    data = layout.to_json(preset("composed"), make_contract(preset("composed")))
    write_json(tmp_path / "config.json", data | {"hed": {}})
    with pytest.raises(Exception, match="`hed` are not valid"):
        loaded(tmp_path)
    with pytest.raises(Exception, match="fusion"):
        from_command_line("--head.fusion=product")


def test_another_preset_on_top_of_a_checkpoint_raises(tmp_path):
    configured(preset="composed")._save_pretrained(tmp_path)
    config = loaded(tmp_path, "--preset=s2vla")
    with pytest.raises(ValueError, match=r"name s2vla/tiny.*resolved from composed/tiny"):
        config.refuse_another_preset(tmp_path)
    loaded(tmp_path, "--n_action_steps=2").refuse_another_preset(tmp_path)
    with pytest.raises(ValueError, match="resolved from composed/tiny"):
        configured(preset="composed", size="small", resolved_preset="composed/tiny")


def test_what_belongs_to_a_run_is_not_written(tmp_path):
    configured(early_exit="auto")._save_pretrained(tmp_path)
    data = json.loads((tmp_path / "config.json").read_text())
    assert not set(CHOICES_OF_THE_RUN) & set(data)
    assert loaded(tmp_path).early_exit == "off"


def test_the_plugin_adds_no_other_field():
    mine = {f.name for f in fields(CostepConfig)}
    theirs = {f.name for f in fields(PreTrainedConfig)} | {f.name for f in fields(PolicyConfig)}
    assert mine - theirs == {*CHOICES_OF_THE_RUN, "normalization_mapping"}


def test_defaults_that_differ_from_lerobots():
    config = configured(normalization_mapping={"STATE": NormalizationMode.MEAN_STD})
    assert config.push_to_hub is False
    assert set(config.normalization_mapping.values()) == {NormalizationMode.IDENTITY}


def test_the_action_window_reaches_back_as_far_as_the_belief():
    assert configured(preset="focusvla").action_delta_indices == list(range(8))
    assert configured(preset="composed").action_delta_indices == list(range(-8, 8))
    assert configured(preset="composed").observation_delta_indices is None


def test_learning_rates_are_those_of_costep_train():
    config = configured(preset="a1_mlp")
    train = config.train
    train.warmup, train.freeze_steps, train.lr_backbone, train.lr_head = 5, 8, 1e-5, 1e-4
    groups = [
        {"params": [torch.nn.Parameter(torch.zeros(2))], "name": name, "lr": rate}
        for name, rate in (("backbone", 1e-5), ("head", 1e-4), ("head/no_decay", 1e-4))
    ]
    optimizer = config.get_optimizer_preset().build(groups)
    scheduler = config.get_scheduler_preset().build(optimizer, 40)
    expected = optim.schedules(config.to_policy_config().train, 40)
    for step in range(40):
        for group in optimizer.param_groups:
            curve = expected[group["name"].split("/")[0]]
            assert group["lr"] == pytest.approx(curve(step), abs=1e-12)
        optimizer.step()
        scheduler.step()
    json.dumps(scheduler.state_dict())  # LeRobot stores it so


def test_upstreams_recipe_decays_and_does_not_clip():
    ours, theirs = configured(), configured()
    theirs.train.recipe = "upstream"
    values = [
        (o.weight_decay, o.grad_clip_norm)
        for o in (ours.get_optimizer_preset(), theirs.get_optimizer_preset())
    ]
    assert values == [(0.0, 1.0), (0.01, 0.0)]


def test_a_longer_resumed_run_does_not_keep_the_old_length():
    """LambdaLR stores the attributes of callable objects, which would bring the old total back."""
    parameter = [{"params": [torch.nn.Parameter(torch.zeros(2))], "name": "head", "lr": 1.0}]
    short = configured().get_scheduler_preset().build(torch.optim.SGD(parameter), 10)
    long = configured().get_scheduler_preset().build(torch.optim.SGD(parameter), 100)
    long.load_state_dict(short.state_dict())
    assert long.lr_lambdas[0](20) > 0.5


def test_the_module_name_leads_lerobot_to_policy_and_processors():
    from lerobot.policies.factory import get_policy_class

    assert get_policy_class("costep").__name__ == "CostepPolicy"
    assert configuration_costep.__name__.count("configuration_") == 1
