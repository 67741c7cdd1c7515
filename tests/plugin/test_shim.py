"""Discovery: LeRobot imports the module that is named like the distribution."""

import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

import costep

NAME = "lerobot_policy_costep"
SOURCE = Path(costep.__file__).parents[2] / NAME
HEAVY = ("transformers", "lerobot.policies", "lerobot.datasets", "costep.plugin.modeling_costep")


def test_the_distribution_is_called_like_its_module_and_has_costeps_version():
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]
    assert project["name"] == NAME
    assert (SOURCE / NAME / "__init__.py").exists()
    assert project["version"] == costep.__version__
    assert f"costep=={costep.__version__}" in project["dependencies"]


def test_installed_metadata_keeps_the_underscores():
    try:
        assert distribution(NAME).metadata["Name"] == NAME
    except PackageNotFoundError:
        pytest.skip(f"{NAME} is not installed")


@pytest.mark.slow
def test_lerobot_finds_it_and_importing_it_is_light():
    pytest.importorskip("lerobot")
    code = f"""
import sys
from lerobot.utils.import_utils import register_third_party_plugins
from lerobot.configs import PreTrainedConfig
from lerobot.envs.configs import EnvConfig
before = set(sys.modules)  # LeRobot's own share
register_third_party_plugins()
assert "{NAME}" in sys.modules, "not discovered"
assert "costep" in PreTrainedConfig.get_known_choices()
assert "costep_desk" in EnvConfig.get_known_choices()
heavy = [m for m in {HEAVY} if m in sys.modules and m not in before]
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
