"""Inputs that are wrong, family by family."""
