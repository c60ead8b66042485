"""Faults on purpose: each trial is a real process that something happens to, and that must end well."""
