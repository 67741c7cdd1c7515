"""The suite's tasks, one file each."""

from costep.sim.desk.tasks.base import Task
from costep.sim.desk.tasks.bowl import Bowl

TASKS: dict[str, type[Task]] = {task.id: task for task in (Bowl,)}

__all__ = ["TASKS", "Task"]
