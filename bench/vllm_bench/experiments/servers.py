"""The two servers of an experiment: started for each visit, or standing; and those left behind."""

from __future__ import annotations

TERM_S = 10.0  # for a server left behind to end by itself
KILLED_S = 30.0
KEY_NAME = "VLLM_API_KEY"
