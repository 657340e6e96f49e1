"""What the machine gives this process."""

import os


def cores() -> int:
    """Processor cores that this process may use: those that its affinity allows, such as `taskset` or a container
    sets."""
    if hasattr(os, "sched_getaffinity"):  # macOS and Windows have none
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
