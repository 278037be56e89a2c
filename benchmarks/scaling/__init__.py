"""The measurement behind docs/scaling.md: ranks beside threads on this machine, and what that gives by calculation for more."""
