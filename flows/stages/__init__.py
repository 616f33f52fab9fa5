"""The stages: each turns finished artifacts into the next one. Every module has one function that does it."""
