"""The first code cell of a chapter, which on Colab installs the book's package.

A notebook cannot hold the commit that it is committed in, so the stored ones name the branch; the build of the book
writes its own commit into those that its site offers. What stands in the cell was checked here, and no shell reads it.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

MARK = "# The set-up cell: `make sync` writes it."
PLACEHOLDER = "OWNER/REPO"
GITHUB = re.compile(r"github\.com[/:]([\w.-]+/[\w.-]+?)(?:\.git)?/?$")
ADDRESS = re.compile(r"(?:https|file)://[\w./~%+-]+")
KNOWN = """\
# Imports the book's package, which on Colab is installed first, from PACKAGE.
import os
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec

PACKAGE = "git+{address}@{commit}"
if find_spec("companion") is None:
    if "COLAB_RELEASE_TAG" not in os.environ:
        raise ModuleNotFoundError(f"The book's package is missing; run: pip install {{PACKAGE}}")
    colabs_own = [f"{{name}}=={{version(name)}}" for name in ("torch", "torchvision", "numpy")]
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, PACKAGE, *colabs_own], check=True)  # what Colab has stays as it is
import companion
"""
UNKNOWN = """\
# Imports the book's package.
from importlib.util import find_spec

if find_spec("companion") is None:
    raise ModuleNotFoundError(
        "The book's package is missing, and this notebook does not know the address of its repository; "
        "run %pip install git+ADDRESS@{commit} with that address, then this cell again."
    )
import companion
"""
ON_DEVICE = (
    "01_autoencoders",
    "06_vae_training",
    "07_latent_space",
    "08_hierarchical_vae",
    "10_ddpm_training",
    "11_ddpm_sampling",
    "12_score",
    "13_diffusion_priors",
    "14_text_to_image",
)
USE_DEVICE = """\
from companion.runtime import use_device

use_device()  # tensors and models of this chapter lie on the GPU, if there is one
"""


def setup_cell(chapter: str, address: str, commit: str) -> str:
    """The code of the set-up cell.

    Args:
        chapter: the name of its file, such as 01_autoencoders.
        address: of the repository; empty or a placeholder where it is not known.
        commit: what pip installs, a commit or a branch.

    Raises:
        ValueError: if the address or the commit holds what does not belong there.
    """
    address = "" if address.endswith(PLACEHOLDER) else address
    if address and not ADDRESS.fullmatch(address):
        raise ValueError(
            f"the repository must have an address of https or file; {address!r} is given"
        )
    if not re.fullmatch(r"[\w][\w./-]*", commit):
        raise ValueError(f"the commit must be a commit, a tag or a branch; {commit!r} is given")
    text = (KNOWN if address else UNKNOWN).format(address=address, commit=commit)
    return (text + (USE_DEVICE if chapter in ON_DEVICE else "")).rstrip("\n")


def repository(root: Path, configured: str) -> str:
    """The address of the repository: that of _config.yml, else of git's remote; or nothing."""
    if configured and not configured.endswith(PLACEHOLDER):
        return configured
    found = GITHUB.search(git(root, "remote", "get-url", "origin"))
    return f"https://github.com/{found[1]}" if found else ""


def commit(root: Path) -> str:
    """The commit that is checked out; nothing where files differ from it, or without git."""
    found = git(root, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    return found if re.fullmatch(r"[0-9a-f]{40}", found) else ""


def git(root: Path, *arguments: str) -> str:
    """What git says; nothing where it fails, or is not there."""
    command = ["git", "-C", str(root), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""
