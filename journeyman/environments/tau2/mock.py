"""tau2's domain `mock`: a list of tasks for the desk, an inbox of notifications for the user."""

from typing import Any, Literal

from journeyman.environments.tau2.database import Record
from journeyman.environments.tau2.toolkit import Toolkit, reads, writes
from journeyman.tools.base import ToolError

TaskStatus = Literal["pending", "completed"]


class MockDesk(Toolkit):
    """What the desk can do."""

    @writes
    def create_task(self, user_id: str, title: str, description: str | None = None) -> Record:
        """Put a new task on a user's list; it begins as pending.

        Args:
            user_id: whose task it is.
            title: what it is called.
            description: more about it.
        """
        self._user(user_id)
        key = f"task_{len(self.database.keys('tasks')) + 1}"
        task = {"task_id": key, "title": title, "description": description, "status": "pending"}
        self.database.edit("users", user_id)["tasks"].append(key)
        return self.database.put("tasks", key, task)

    @reads
    def get_users(self) -> list[Record]:
        """List all users with their tasks."""
        return list(self.database.records("users"))

    @writes
    def update_task_status(self, task_id: str, status: TaskStatus) -> Record:
        """Set the status of a task.

        Args:
            task_id: which task.
            status: its new status.
        """
        self._task(task_id)
        task = self.database.edit("tasks", task_id)
        task["status"] = status
        return task

    @reads
    def transfer_to_human_agents(self, summary: str) -> str:
        """Hand the user over to a person: where they ask for one, or where policy and tools leave no other way.

        Args:
            summary: what the user wants.
        """
        return "Transfer successful"

    def assert_number_of_tasks(self, user_id: str, expected_number: int) -> bool:
        """Whether a user has so many tasks."""
        return len(self._user(user_id)["tasks"]) == expected_number

    def assert_task_status(self, task_id: str, expected_status: TaskStatus) -> bool:
        """Whether a task has this status."""
        return self._task(task_id)["status"] == expected_status

    def _user(self, user_id: str) -> Record:
        return _found(self.database.get("users", user_id), f"User {user_id}")

    def _task(self, task_id: str) -> Record:
        return _found(self.database.get("tasks", task_id), f"Task {task_id}")


class MockUser(Toolkit):
    """What the user can do on a device of their own."""

    @reads
    def check_notifications(self) -> list[Record]:
        """List the notifications in your inbox."""
        return list(self.database.records("notifications"))

    @writes
    def dismiss_notification(self, notification_id: str) -> str:
        """Mark a notification as read.

        Args:
            notification_id: which one.
        """
        self._notification(notification_id)
        self.database.edit("notifications", notification_id)["status"] = "read"
        return f"Notification {notification_id} dismissed"

    def add_notification(self, notification_id: str, message: str, task_id: str | None = None) -> dict[str, Any]:
        """Put an unread notification into the inbox."""
        made = {"notification_id": notification_id, "message": message, "status": "unread", "task_id": task_id}
        return self.database.put("notifications", notification_id, made)

    def assert_notification_status(self, notification_id: str, expected_status: str) -> bool:
        """Whether a notification has this status."""
        return self._notification(notification_id)["status"] == expected_status

    def _notification(self, notification_id: str) -> Record:
        return _found(self.database.get("notifications", notification_id), f"Notification {notification_id}")


def _found(record: Record | None, what: str) -> Record:
    if record is None:
        raise ToolError(f"{what} not found")
    return record
