"""What the benchmarks of live play share: a stack of their own, lean clients, and the looks at what was kept."""
