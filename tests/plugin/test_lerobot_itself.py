"""Every LeRobot name that is not its public interface and that the plug-in leans on (0.6.1).

When one of these fails after an upgrade, the module named beside it has to be looked at first.
"""

import inspect

import pytest

pytest.importorskip("lerobot")
pytestmark = pytest.mark.slow

NAMES = {
    # configuration_costep: config.json is written by our override
    "lerobot.configs.policies:PreTrainedConfig._save_pretrained",
    # modeling_costep: strict loading, the core's files, one rollout at a time
    "lerobot.policies.pretrained:PreTrainedPolicy._save_pretrained",
    "lerobot.policies.pretrained:PreTrainedPolicy._load_as_safetensor",
    # environment_costep
    "lerobot.envs.utils:FreezeAfterEpisodeEnd",
    "lerobot.envs.utils:NEW_ROLLOUT_OPTION",
    "lerobot.envs.configs:EnvConfig.create_envs",
    # processor_costep
    "lerobot.processor:make_default_policy_processor_steps",
    "lerobot.processor:make_policy_processor_pipelines",
    "lerobot.lerobot_types:TransitionKey",
    # scheduler_costep
    "lerobot.optim.schedulers:LRSchedulerConfig.register_subclass",
    # lerobot_policy_costep
    "lerobot.utils.import_utils:register_third_party_plugins",
}
SPOKEN_OF = {  # attributes and calls that upstream makes by name, found in its source
    "lerobot.policies.factory": ("cfg._runtime_dataset_meta", '"configuration_", "processor_"'),
    "lerobot.scripts.lerobot_train": ('"update"', "get_optim_params", 'reduction="none"'),
    "lerobot.scripts.lerobot_eval": (
        "policy.reset()",
        ".select_action(",
        "_max_episode_steps",
    ),
}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_it_is_still_there(name):
    module, _, path = name.partition(":")
    found = __import__(module, fromlist=["_"])
    for part in path.split("."):
        found = getattr(found, part)


@pytest.mark.parametrize("module", SPOKEN_OF)
def test_upstream_still_calls_it_so(module):
    source = inspect.getsource(__import__(module, fromlist=["_"]))
    if module.endswith("train"):
        source += inspect.getsource(__import__("lerobot.optim.factory", fromlist=["_"]))
    for words in SPOKEN_OF[module]:
        assert words in source, words


def test_signatures_that_are_overridden_have_not_changed():
    from lerobot.policies.pretrained import PreTrainedPolicy

    load = inspect.signature(PreTrainedPolicy._load_as_safetensor)
    assert list(load.parameters) == ["model", "model_file", "map_location", "strict"]
    save = inspect.signature(PreTrainedPolicy._save_pretrained)
    assert list(save.parameters) == ["self", "save_directory", "state_dict"]


def test_without_the_shim_a_flag_finds_the_plugin():
    from lerobot.configs.parser import load_plugin

    load_plugin("costep.plugin")  # what --discover_packages_path=costep.plugin does
