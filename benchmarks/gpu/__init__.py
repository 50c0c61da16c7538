"""Everything that has to be measured on a GPU, by one command: ``python -m benchmarks.gpu --out DIR`` (docs/gpu.md)."""
