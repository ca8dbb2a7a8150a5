"""Commands that need no run: one module each, registered in `infra.cli`."""
