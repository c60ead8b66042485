"""What :mod:`benchmarks.rollout` is made of: workloads, contenders, the check of their results, and measurement."""
