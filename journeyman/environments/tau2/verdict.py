"""Whether a task of a desk is done: database, words, actions and assertions, as its reward basis says (#55, tau2)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from journeyman.environments.episode import Verdict
from journeyman.environments.tau2.task import Action, Basis, Task
from journeyman.environments.tau2.world import Domain, World


@dataclass(slots=True, kw_only=True)
class Conduct:
    """What was said and done in an attempt."""

    said: list[str] = field(default_factory=list)
    """The assistant's messages without calls."""
    made: list[Action] = field(default_factory=list)
    """All calls, the user's too, those that failed too."""
    ended: bool = False
    """Whether the dialogue came to its end, rather than to a limit."""


def judge(domain: Domain, task: Task, world: World, conduct: Conduct, basis: Sequence[Basis] | None = None) -> Verdict:
    """The verdict on an attempt.

    Each part is the share met, named `db`, `communicate`, `action`, `assertion`; what is in the basis must be met in
    full, what is not is told and does not count. `ended` is 0 for a dialogue that a limit cut off, which is never
    right. Statements that only a judge can check are left out, and `unjudged` says how many there are; where nothing
    else is to be checked the verdict is None.

    Args:
        domain: where the gold actions are run afresh.
        task: what was asked.
        world: as it was left.
        conduct: what was said and done.
        basis: instead of the task's own; #55 takes DB and COMMUNICATE.
    """
    counted = set(task.evaluation_criteria.reward_basis if basis is None else basis)
    shares = _shares(domain, task, world, conduct)
    parts = {_NAMES[part]: share for part, share in shares.items()} | {"ended": float(conduct.ended)}
    if Basis.NL_ASSERTION in counted and task.evaluation_criteria.nl_assertions:
        parts["unjudged"] = float(len(task.evaluation_criteria.nl_assertions))
    gates = [share for part, share in shares.items() if part in counted]
    if not gates:
        return Verdict(correct=None, score=None, parts=parts)
    return Verdict.of(conduct.ended and all(share == 1.0 for share in gates), **parts)


_NAMES: Mapping[Basis, str] = {
    Basis.DB: "db",
    Basis.COMMUNICATE: "communicate",
    Basis.ACTION: "action",
    Basis.ENV_ASSERTION: "assertion",
}


def _shares(domain: Domain, task: Task, world: World, conduct: Conduct) -> dict[Basis, float]:
    """The share met of each part that the task says anything about."""
    criteria = task.evaluation_criteria
    shares = {}
    if criteria.actions is not None:
        shares[Basis.DB] = float(same_state(domain, task, world))
    if criteria.communicate_info:
        shares[Basis.COMMUNICATE] = _share([was_said(info, conduct.said) for info in criteria.communicate_info])
    if criteria.actions:
        shares[Basis.ACTION] = _share([any(same_call(gold, one) for one in conduct.made) for gold in criteria.actions])
    if criteria.env_assertions:
        shares[Basis.ENV_ASSERTION] = _share([world.holds(assertion) for assertion in criteria.env_assertions])
    return shares


def _share(met: Sequence[bool]) -> float:
    return sum(met) / len(met)


def same_state(domain: Domain, task: Task, world: World) -> bool:
    """Whether the databases are those after the gold actions; gold actions that fail change nothing.

    The user's own database counts only where gold actions change it: what users look at and put away on their own
    device is theirs (ours; tau2 counts it always, and its task `update_task_with_user_tools` can't be solved then).
    """
    gold = World(domain, task)
    gold.attempt(task.actions)
    if gold.desk.database.changes_hash() != world.desk.database.changes_hash():
        return False
    if not any(action.requestor == "user" for action in task.actions):
        return True
    return gold.user.database.changes_hash() == world.user.database.changes_hash()


def was_said(info: str, said: Sequence[str]) -> bool:
    """Whether a message holds the text, whatever the case; commas don't count."""
    wanted = info.lower().replace(",", "")
    return any(wanted in message.lower().replace(",", "") for message in said)


def same_call(gold: Action, made: Action) -> bool:
    """Whether a call is the gold one, by the arguments that count. An argument that is null is one left out."""
    if (gold.name, gold.requestor) != (made.name, made.requestor):
        return False
    counted = {*gold.arguments, *made.arguments} if gold.compare_args is None else set(gold.compare_args)
    return all(gold.arguments.get(name) == made.arguments.get(name) for name in counted)
