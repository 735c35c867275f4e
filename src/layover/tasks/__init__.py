"""Tasks: what can be learnt. One declaration per task, found by name."""

from layover.registry import Registry
from layover.tasks.task import Task

TASKS: Registry[Task] = Registry(
    "layover.tasks",
    "task",
    lambda o: isinstance(o, Task),
    lambda t: t.name,
    families={"tasksource": "layover.tasks.tasksource"},
)

__all__ = ["TASKS", "Task"]
