"""Prefect flows, thin: each stage calls the library and the storage. And the command line."""

import logging

# What was made and what was reused is said at this level; Prefect's console shows the rest from WARNING on.
for _name in (__name__, "xtoken_core"):
    logging.getLogger(_name).setLevel(logging.INFO)
