"""Import packages that are not installed with the core. A missing one is reported with the command that installs it."""

from __future__ import annotations

import re
from importlib import metadata
from types import ModuleType

from efficientformer_edu.utils.torchvision_build import import_with_torchvision

DISTRIBUTION = "efficientformer-edu"
RENAMED = {"PIL": "pillow", "yaml": "PyYAML"}  # modules whose distribution has a different name


def import_optional(name: str) -> ModuleType:
    """Import a module of an optional package, such as "fvcore.nn".

    Raises:
        ImportError: if the package, or one that it needs, is missing; the message is one line with the install command.
    """
    try:
        return import_with_torchvision(name)
    except ModuleNotFoundError as error:
        raise ImportError(missing_message(error.name or name)) from error


def missing_message(module: str) -> str:
    """That a module is missing, and the command that installs it."""
    return f"{module.partition('.')[0]} is missing: {install_command(module)}"


def install_command(module: str) -> str:
    """The command that installs the package of a module, by an extra of this package or by its own name."""
    package = RENAMED.get(module.partition(".")[0], module.partition(".")[0])
    try:
        requirements = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:  # run from the source folder, not installed
        requirements = []
    for requirement in requirements:
        extra = re.fullmatch(rf"{package}\b.*extra == ['\"](\w+)['\"]", requirement.replace("-", "_"))
        if extra:
            return f"pip install '{DISTRIBUTION}[{extra[1]}]'"
    return f"pip install {package}"
