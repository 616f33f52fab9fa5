"""Prefect flows, thin: each stage calls the library and the storage. And the command line."""

import logging

# What was made and what was reused is said at this level; Prefect's console shows the rest from WARNING on.
logging.getLogger(__name__).setLevel(logging.INFO)
