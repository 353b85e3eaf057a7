"""The two servers of an experiment: started for each visit, or standing; and those left behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import BenchError, UsageError
from ..launch.env import Settings
from ..launch.log import last_lines
from ..launch.ports import members
from ..launch.process import ServerProcess
from ..launch.settings import DEFAULT_MODEL, HUBS_OWN
from ..scenario.scenario import Scenario
from .state import Asked, Process, State, checksum, experiments, write_state

TERM_S = 10.0  # for a server left behind to end by itself
KILLED_S = 30.0
KEY_NAME = "VLLM_API_KEY"
