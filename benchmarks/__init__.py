"""needle_ir beside PyTorch, JAX and a NumPy step written by hand: see docs/benchmarks.md."""
