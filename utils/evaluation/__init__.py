"""Evaluation: metrics, the published figures, tables and pictures."""
