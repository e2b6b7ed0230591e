"""What the values in a module's or a type's dictionary are to us, and what there is to move from one to another.

Reads, and says which words would have to change; changes nothing."""


def kind_of(value):
    name = type(value).__name__
    if isinstance(value, METHODS):
        return "method"
    if isinstance(value, TABLES):
        return "table"
    if isinstance(value, Wrapper):
        return "wrapper"
    if function_in(value) is not None:
        if isinstance(value, Builtin) and isinstance(value.__self__, type) and value.__name__ == "__new__":
            return "new"
        return "function"
    if name in ("property", "pybind11_static_property"):
        return "object"
    if type(value) in SIMPLE:
        return "constant"
    return None


def function_in(value):
    """The native function object in a value: itself, or what pybind11 and static methods wrap."""
    if type(value).__name__ == "instancemethod" or isinstance(value, staticmethod):
        value = value.__func__
    native_function = isinstance(value, Builtin) or type(value).__name__ == "cython_function_or_method"
    return value if native_function else None


class Function:
    """The contents of a native function object: what it calls, on what, and what it says of itself."""

    def __init__(self, function, plan):
        definition = word(id(function) + F_DEFINITION)
        self.definition = Definition(definition, plan)
        self.self = plan.live_of(word(id(function) + F_SELF))
        self.vectorcall = word(id(function) + F_VECTORCALL)
        self.extra = []
        if not isinstance(function, Builtin):
            dictionary = type(function).__dictoffset__
            for offset in range(F_END, type(function).__basicsize__ - 7, WORD):
                if offset != dictionary:
                    self.extra.append((offset, plan.live_of(word(id(function) + offset))))
        kept.append(function)

    def steps(self, into):
        address = id(into)
        yield from self.definition.steps(word(address + F_DEFINITION))
        yield from change(address + F_SELF, self.self)
        yield from change(address + F_VECTORCALL, self.vectorcall)
        for offset, value in self.extra:
            yield from change(address + offset, value)


class Definition:
    """The contents of a PyMethodDef."""

    def __init__(self, address, plan):
        self.code = plan.identity(word(address + M_CODE))
        self.flags = word(address + M_FLAGS)
        self.doc = word(address + M_DOC)
        self.bound = None
        if not self.flags & METH_METHOD:
            probe = native.function(address)
            kept.append(probe)
            self.bound = word(id(probe) + F_VECTORCALL)

    def told(self):
        """What of it a user may notice."""
        return self.code, self.flags, string_at(self.doc)

    def steps(self, at):
        flags = word(at + M_FLAGS)
        yield from change(at + M_CODE, self.code)
        yield from change(at + M_FLAGS, self.flags)
        yield from change(at + M_DOC, self.doc)
        if flags & 0xffffffff != self.flags & 0xffffffff:
            if (flags | self.flags) & METH_METHOD:
                name = string_at(word(at)).decode(errors="replace")
                raise Refused(f"`{name}` changed to or from METH_METHOD, which live bound methods cannot follow")
            # Function objects made from it know how to be called by what its flags were.
            for held in gc.get_objects():
                if type(held) is Builtin and word(id(held) + F_DEFINITION) == at:
                    yield from change(id(held) + F_VECTORCALL, self.bound)


class Entry:
    """What stands under one name of a type."""

    def __init__(self, value, plan):
        self.kind = kind_of(value)
        self.value = value
        kept.append(value)
        if self.kind == "method":
            self.definition = Definition(word(id(value) + D_DEFINITION), plan)
            self.vectorcall = word(id(value) + D_EXTRA)
        elif self.kind == "table":
            self.table = word(id(value) + D_DEFINITION)
        elif self.kind == "wrapper":
            self.wrapped = plan.identity(word(id(value) + D_EXTRA))
        elif self.kind == "function":
            self.function = Function(function_in(value), plan)

    def steps(self, live, name, current):
        """From what stands under the name now to this."""
        if current is not None and kind_of(current) == self.kind and type(current) is type(self.value):
            if self.kind == "method":
                yield from self.definition.steps(word(id(current) + D_DEFINITION))
                return (yield from change(id(current) + D_EXTRA, self.vectorcall))
            if self.kind == "table":
                return (yield from change(id(current) + D_DEFINITION, self.table))
            if self.kind == "function":
                return (yield from self.function.steps(function_in(current)))
            if self.kind == "new":
                return
            if self.kind == "wrapper" and word(id(current) + D_EXTRA) == self.wrapped:
                return
            if self.kind == "constant" and current == self.value:
                return
        if self.kind == "wrapper":
            yield from change(id(self.value) + D_EXTRA, self.wrapped)
            yield from tables_of_its_own(live)
        yield "type", live, name, self.value, True

    def same(self, other):
        if other is None or other.kind != self.kind:
            return False
        if self.kind == "method":
            return self.definition.told() == other.definition.told()
        if self.kind == "function":
            return self.function.definition.told() == other.function.definition.told()
        return self.kind in ("wrapper", "new", "table") or self.value == other.value


def change(address, value):
    if word(address) != value:
        yield "poke", address, value.to_bytes(WORD, "little")


def tables_of_its_own(live):
    """A static type shares the tables of its base, or has none: a new special method needs one to be entered in."""
    if live.__flags__ & TYPE_HEAP:
        return
    base = word(id(live) + T_BASE)
    for offset, size in ((T_ASYNC, 32), (T_NUMBER, 288), (T_SEQUENCE, 80), (T_MAPPING, 24)):
        table = word(id(live) + offset)
        if (live, offset) not in own_tables and (not table or table == word(base + offset)):
            own_tables.add((live, offset))
            data = native.peek(table, size) if table else bytes(size)
            yield from change(id(live) + offset, native.memory(data))


own_tables = set()
