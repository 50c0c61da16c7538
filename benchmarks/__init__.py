"""Measurements that are run by hand: baselines, speed, memory."""
