"""What the suites share: peers, people, machines, processes, timing, charts."""
