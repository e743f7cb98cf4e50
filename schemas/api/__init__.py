"""Cluster API's kinds as pydantic models: one folder per API group, one module or package per version."""
