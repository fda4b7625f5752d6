"""What tests need of the machine."""

from __future__ import annotations

import os
import shutil

import pytest

DOCKER = shutil.which("dockerd") is not None and os.geteuid() == 0
"""Whether a Docker daemon can be started."""

needs_docker = pytest.mark.skipif(not DOCKER, reason="needs root and docker.io")

containers = pytest.mark.parametrize(
    "containers", ["process", pytest.param("docker", marks=[pytest.mark.docker, needs_docker])]
)
"""A test once with each sort of container; where one is missing, its case says so."""
