"""A machine for pickles that builds inert values and can do nothing else.

A pickle is a program that calls what it names. Here names are never looked up by import or attribute:
a table of the caller says what a few of them build, and every other name is an error, or with ``lenient``
stands for an :class:`~ilo_pl.weights.inert.Opaque` object. Python's own unpickler is not used, because it hashes and nests what
a file asks for: three hundred bytes of nested sets keep it busy for hours. Here opcodes and bytes are
counted, only plain numbers, texts and short tuples of them are keys, and nothing recurses.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import Any, NoReturn

from ilo_pl.weights.inert import (
    Budget,
    Name,
    Opaque,
    RefusedError,
    Stateful,
    Table,
    as_pairs,
    as_set,
)

_SIZED = (str, bytes, list, tuple, dict, set)
_VALUES = (
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 STRING BINSTRING SHORT_BINSTRING BINBYTES "
    "SHORT_BINBYTES BINBYTES8 UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 FLOAT BINFLOAT"
)
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}


class Machine:
    """Runs the opcodes of one pickle.

    Args:
        names: what names build.
        budget: what it may cost.
        persistent: what builds an object stored outside the pickle of its id, if there is one.
        lenient: whether unknown names stand for :class:`Opaque` objects; they are errors otherwise.
    """

    def __init__(
        self,
        names: Table,
        budget: Budget,
        *,
        persistent: Callable[[Any], Any] | None = None,
        lenient: bool = False,
    ) -> None:
        self._names, self._budget = names, budget
        self._persistent, self._lenient = persistent, lenient
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def load(self, file: Any) -> Any:
        """Return the value of the pickle that a binary file is at; the file is left behind it.

        Raises:
            RefusedError: it asks for what is not allowed.
            Exception: it is damaged, in any way.
        """
        values = frozenset(_VALUES.split())
        for opcode, argument, _ in pickletools.genops(file):
            self._budget.step()
            name = opcode.name
            if name in values:
                self._stack.append(argument)
            elif name in _CONSTANTS:
                self._stack.append(_CONSTANTS[name]())
            elif name == "STOP":
                return self._stack.pop()
            else:
                step = _STEPS.get(name)
                if step is None:
                    raise RefusedError(f"the instruction {name}")
                step(self, argument)
        raise EOFError("it ends in the middle")

    def _mark(self, _: object) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _marked(self) -> list[Any]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def _gather(self, kind: Callable[[list[Any]], Any]) -> None:
        items = self._marked()
        self._stack.append(kind(items))

    def _forget(self) -> None:
        self._marked()

    def _pop(self, _: object) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._marked()

    def _put(self, index: Any) -> None:
        self._memo[len(self._memo) if index is None else index] = self._stack[-1]

    def _get(self, index: Any) -> None:
        self._stack.append(self._memo[index])

    def _tuple(self, count: int) -> None:
        items = self._stack[-count:]
        if len(items) < count:
            raise IndexError("a tuple of nothing")
        self._stack[-count:] = [tuple(items)]

    def _append(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Opaque):
            raise RefusedError("an addition to what is no list")

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        pairs = as_pairs(_two_by_two(items))
        if isinstance(target, dict):
            target.update(pairs)
        elif not isinstance(target, Opaque):
            raise RefusedError("an entry of what is no dictionary")

    def _add_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, set):
            raise RefusedError("an addition to what is no set")
        target |= as_set(items)

    def _global(self, name: Any) -> None:
        module, _, attribute = str(name).partition(" ")
        self._name(module, attribute)

    def _stack_global(self, _: object) -> None:
        attribute, module = self._stack.pop(), self._stack.pop()
        if not isinstance(attribute, str) or not isinstance(module, str):
            raise RefusedError("a name that is no text")
        self._name(module, attribute)

    def _name(self, module: str, attribute: str) -> None:
        name = Name(module, attribute)
        if not self._lenient and name.key not in self._names:
            raise RefusedError(str(name))
        self._stack.append(name)

    def _call(self, function: Any, arguments: Any) -> None:
        if not isinstance(arguments, (tuple, list)):
            raise RefusedError("a call without arguments")
        self._budget.spend(sum(len(a) for a in arguments if isinstance(a, _SIZED)))
        known = self._names.get(function.key) if isinstance(function, Name) else None
        if known is not None:
            self._stack.append(known(*arguments))
        elif self._lenient and isinstance(function, (Name, Opaque)):
            self._stack.append(Opaque())
        else:
            raise RefusedError("a call of what is no function")

    def _reduce(self, _: object) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        self._call(function, arguments)

    def _new_with_keywords(self, _: object) -> None:
        keywords = self._stack.pop()
        if keywords != {} and not self._lenient:
            raise RefusedError("an object with named arguments")
        self._reduce(None)

    def _instance(self, name: Any) -> None:
        arguments = self._marked()
        self._global(name)
        self._call(self._stack.pop(), arguments)

    def _object(self, _: object) -> None:
        function, *arguments = self._marked()
        self._call(function, arguments)

    def _build(self, _: object) -> None:
        state = self._stack.pop()
        target = self._stack[-1]
        if isinstance(target, Stateful):
            target.take_state(state)
        elif not isinstance(target, (dict, Opaque)):
            # The attributes of dictionaries and of what is not looked at are dropped.
            raise RefusedError("a change of what is no plain object")

    def _persistent_id(self, _: object) -> None:
        if self._persistent is None:
            raise RefusedError("an object stored outside the file")
        self._stack.append(self._persistent(self._stack.pop()))

    def _no_text_id(self, _: object) -> NoReturn:
        raise RefusedError("an object stored outside the file")


def _two_by_two(items: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(items[::2], items[1::2], strict=True))


def _pop_items(machine: Machine, count: int) -> list[Any]:
    items = machine._stack[-count:]
    del machine._stack[-count:]
    return items


Step = Callable[[Machine, Any], None]
_STEPS: dict[str, Step] = {
    "PROTO": lambda m, _: None,
    "FRAME": lambda m, _: None,
    "MARK": Machine._mark,
    "POP": Machine._pop,
    "POP_MARK": lambda m, _: m._forget(),
    "DUP": lambda m, _: m._stack.append(m._stack[-1]),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), Machine._put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), Machine._get),
    "TUPLE": lambda m, _: m._gather(tuple),
    "TUPLE1": lambda m, _: m._tuple(1),
    "TUPLE2": lambda m, _: m._tuple(2),
    "TUPLE3": lambda m, _: m._tuple(3),
    "LIST": lambda m, _: m._gather(list),
    "DICT": lambda m, _: m._gather(lambda items: as_pairs(_two_by_two(items))),
    "APPEND": lambda m, _: m._append(_pop_items(m, 1)),
    "APPENDS": lambda m, _: m._append(m._marked()),
    "SETITEM": lambda m, _: m._set_items(_pop_items(m, 2)),
    "SETITEMS": lambda m, _: m._set_items(m._marked()),
    "ADDITEMS": lambda m, _: m._add_items(m._marked()),
    "FROZENSET": lambda m, _: m._gather(as_set),
    "GLOBAL": Machine._global,
    "STACK_GLOBAL": Machine._stack_global,
    "REDUCE": Machine._reduce,
    "NEWOBJ": Machine._reduce,
    "NEWOBJ_EX": Machine._new_with_keywords,
    "INST": Machine._instance,
    "OBJ": Machine._object,
    "BUILD": Machine._build,
    "BINPERSID": Machine._persistent_id,
    "PERSID": Machine._no_text_id,
}
