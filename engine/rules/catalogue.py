"""All rules of this package, found by what they say of themselves: a new module needs no entry anywhere."""

import importlib
import pkgutil
from types import ModuleType

import engine.rules
from engine.rules.interface import RuleInfo


def modules() -> dict[str, ModuleType]:
    """Each module of this package that has a `RULE`, by the rule's name, in the order of names; ValueError if two have the same."""
    found: dict[str, ModuleType] = {}
    for name in sorted(module.name for module in pkgutil.iter_modules(engine.rules.__path__)):
        module = importlib.import_module(f"engine.rules.{name}")
        rule = getattr(module, "RULE", None)
        if not isinstance(rule, RuleInfo):
            continue
        if rule.name in found:
            raise ValueError(f"two rules have the name {rule.name}")
        found[rule.name] = module
    return dict(sorted(found.items()))


def infos() -> list[RuleInfo]:
    """What each rule, and each part of one with evidence of its own, says of itself; by name."""
    told = [value for module in modules().values() for value in vars(module).values() if isinstance(value, RuleInfo)]
    return sorted(told, key=lambda info: info.name)
