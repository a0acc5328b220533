"""Evidence + collateral + reference values + policy + time -> verdict. Pure: no I/O, no clock, no randomness."""

from strongroom.appraisal.appraise import appraise, require

__all__ = ["appraise", "require"]
