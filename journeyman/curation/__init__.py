"""Which rows are learned from. To add a rule: a function in `rules`, a test, a line in `RULES`."""

from journeyman.curation.rules import RULES, VOCABULARY, build_rule

__all__ = ["RULES", "VOCABULARY", "build_rule"]
