"""Which trajectories are learned from. To add a rule: a function in `rules`, a test, a line in `RULES`."""

from journeyman.curation.rules import Rule, duplicates, errors, format_errors, leaks, verified

RULES: dict[str, Rule] = {
    "format": format_errors,
    "errors": errors,
    "duplicates": duplicates,
    "leaks": leaks,
    "verified": verified,
}

__all__ = ["RULES", "Rule"]
