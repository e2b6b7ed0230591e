"""Brings what Python sees of an extension module in step with a reload of its library.

The new image's own initialiser is run once, into a scratch module. What it makes there are donors: the live module, types
and functions stay the objects they are and get the donors' contents. All of it is worked out while nothing has changed;
what is to be changed is returned as a list of steps, which native code takes after the commit without running any Python.

Whatever was adapted is kept for ever: so every older version can be made live again, and no reference count needs to follow
what is moved.
"""
import _imp
import gc
import sys
import types

native = types.SimpleNamespace(**natives)

WORD = 8
TYPE_IMMUTABLE = 1 << 8
TYPE_HEAP = 1 << 9
TYPE_READY = 1 << 12
TYPE_SUBCLASS = 1 << 31
# Offsets in PyTypeObject, checked against the interpreter by `check_layouts`.
T_NAME, T_SIZE, T_ITEM, T_ASYNC, T_NUMBER, T_SEQUENCE, T_MAPPING, T_BUFFER = 24, 32, 40, 80, 96, 104, 112, 160
T_DEALLOC, T_FLAGS, T_DOC, T_BASE, T_INIT, T_NEW, T_SUBCLASSES = 48, 168, 176, 256, 296, 312, 360
# tp_dealloc, tp_traverse, tp_clear, tp_free, tp_vectorcall: no name in the type's dictionary stands for them.
T_NAMELESS = (48, 184, 192, 320, 400)
# PyCFunctionObject: m_ml, m_self, vectorcall, and what Cython adds. PyMethodDef: ml_meth, ml_flags, ml_doc.
F_DEFINITION, F_SELF, F_VECTORCALL, F_END = 16, 24, 48, 56
M_CODE, M_FLAGS, M_DOC = 8, 16, 24
# Descriptors: d_type; then the definition, and what depends on its kind.
D_TYPE, D_DEFINITION, D_EXTRA = 16, 40, 48
METH_METHOD = 0x200

Builtin = types.BuiltinFunctionType
METHODS = (types.MethodDescriptorType, types.ClassMethodDescriptorType)
TABLES = (types.GetSetDescriptorType, types.MemberDescriptorType)
Wrapper = types.WrapperDescriptorType
SIMPLE = (int, float, complex, str, bytes, bool, type(None))
PRIVATE = ("__dict__", "__weakref__", "__module__", "__pyx_vtable__")

records = {}
kept = []


class Refused(Exception):
    pass


class Failed(Exception):
    def __init__(self, message, trace):
        super().__init__(message)
        self.trace = trace


def word(address):
    data = native.peek(address, WORD)
    return 0 if data is None else int.from_bytes(data, "little")


def poke(address, value):
    native.poke(address, value.to_bytes(WORD, "little"))


def is_type(address):
    """Whether a type object stands at this address, which may be any number."""
    if address % WORD or address < 4096:
        return False
    meta = word(address + WORD)
    return meta == id(type) or word(meta + WORD) == id(type) and word(meta + T_FLAGS) & TYPE_SUBCLASS != 0


def is_object(address):
    return address % WORD == 0 and address >= 4096 and word(address) > 0 and is_type(word(address + WORD))


def string_at(address):
    text = b""
    while address:
        part = native.peek(address, 64) or native.peek(address, 64 - address % 64) or b"\0"
        end = part.find(b"\0")
        if end >= 0:
            return text + part[:end]
        text, address = text + part, address + len(part)
    return text


def check_layouts():
    """The few places of CPython's structures that are written to are where they are expected, or nothing is done."""
    join = str.__dict__["join"]
    ok = (
        string_at(word(word(id(len) + F_DEFINITION))) == b"len"
        and word(id(len) + F_VECTORCALL) == word(id(abs) + F_VECTORCALL) != 0
        and word(id(join) + D_TYPE) == id(str)
        and string_at(word(word(id(join) + D_DEFINITION))) == b"join"
        and word(id(str) + T_SIZE) == str.__basicsize__
        and word(id(bool) + T_FLAGS) == bool.__flags__
        and word(id(bool) + T_BASE) == id(int)
        and string_at(word(id(str) + T_NAME)) == b"str"
    )
    if not ok:
        raise Refused(f"this interpreter ({sys.version.split()[0]}) lays its objects out in a way that is not known")
    if sys.version_info < (3, 10):
        raise Refused(f"Python {sys.version.split()[0]} is too old: extensions can be reloaded from 3.10 on")


# What the values in a module's or a type's dictionary are to us.


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


class Version:
    """One version of everything that Python sees of one library."""

    def __init__(self):
        self.functions = {}
        self.constants = {}
        self.classes = {}
        self.objects = {}
        self.types = {}
        self.words = {}
        self.from_initialiser = False


class Plan:
    """One reload being worked out."""

    def __init__(self, given):
        self.given = given
        self.identities = dict(given["identities"])
        self.live = {}
        self.ranges = given["images"]
        self.said = []

    def say(self, kind, text):
        self.said.append((kind, str(text)))

    def identity(self, code):
        """Where a function of the new image that replaces an older one is known to be."""
        return self.identities.get(code, code)

    def live_of(self, address):
        return self.live.get(address, address)

    def ours(self, address):
        return any(start <= address < end for start, end in self.ranges)

    def pair(self, donor, live):
        self.live[id(donor)] = id(live)
        kept.extend((donor, live))

    # The live side.

    def capture(self, modules, types_):
        version = Version()
        for module in modules:
            self.capture_module(version, module, module.__dict__)
        for live in types_:
            self.capture_type(version, live, live)
        return version

    def capture_module(self, version, module, dictionary):
        name = module.__name__
        for key, value in dictionary.items():
            if key.startswith("__") and key not in ("__doc__", "__all__", "__version__"):
                continue
            function = function_in(value)
            if function is not None:
                if self.is_ours(function, module):
                    version.functions[name, key] = (value, Function(function, self))
            elif isinstance(value, type):
                if self.is_our_type(value):
                    version.classes[name, key] = value
            elif type(value) in SIMPLE:
                version.constants[name, key] = value
            else:
                version.objects[name, key] = value

    def is_ours(self, function, module):
        self_ = word(id(function) + F_SELF)
        return (
            self.live_of(self_) == self.live_of(id(module))
            or self.ours(word(id(function) + F_DEFINITION))
            or self.ours(word(word(id(function) + F_DEFINITION) + M_CODE))
        )

    def is_our_type(self, type_):
        slots = (T_DEALLOC, T_INIT, T_NEW, 88)
        return (
            id(type_) in self.live
            or self.ours(id(type_))
            or any(self.ours(word(id(type_) + slot)) for slot in slots)
            or type(type_).__name__ == "pybind11_type"
        )

    def capture_type(self, version, live, source):
        entries = {}
        for key, value in source.__dict__.items():
            if key in PRIVATE or key.startswith(("_pybind11", "__pyx")):
                continue
            kind = kind_of(value)
            if kind is None or (kind == "constant" and key.startswith("__") and key != "__doc__"):
                continue
            if kind in ("method", "table", "wrapper"):
                if value.__objclass__ is not source:
                    continue
                # It checks its argument for being of its type.
                poke(id(value) + D_TYPE, id(live))
            elif kind == "new" or (kind == "function" and isinstance(value, Builtin)):
                if value.__self__ is source:
                    poke(id(value) + F_SELF, id(live))
            entries[key] = Entry(value, self)
        version.types[live] = entries
        words = {}
        for offset in T_NAMELESS + ((T_NEW,) if "__new__" in entries else ()):
            code = self.identity(word(id(source) + offset))
            if self.ours(code):
                words[offset] = code
        buffer = word(id(source) + T_BUFFER)
        if buffer and any(self.ours(word(buffer + WORD * index)) for index in (0, 1)):
            words[T_BUFFER] = tuple(self.identity(word(buffer + WORD * index)) for index in (0, 1))
        if not live.__flags__ & TYPE_HEAP:
            words[T_DOC] = word(id(source) + T_DOC)
        version.words[live] = words


def find_live(given):
    """The modules of sys.modules that came out of the library."""
    realpath = sys.modules["os"].path.realpath
    library = realpath(given["library"])
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.rpartition(".")[2] in given["modules"] and isinstance(file, str) and realpath(file) == library:
            yield name, module


def submodules(name, module):
    """What the initialiser put below the module."""
    return {
        full: below
        for full, below in list(sys.modules.items())
        if full.startswith(name + ".") and isinstance(below, types.ModuleType) and not getattr(below, "__file__", None)
    }


class State:
    """The library's statics, which an initialiser would set anew: they get back what they held."""

    def __init__(self, statics):
        self.statics = []
        for name, address, size, own in statics:
            if 400 <= size <= 440 and is_type(address) and word(address + T_FLAGS) & TYPE_READY:
                continue
            data = native.peek(address, size)
            if data is None:
                continue
            self.statics.append((name, address, data))
            for at in range(0, size - 7, WORD):
                held = int.from_bytes(data[at:at + 8], "little")
                if (address + at) % WORD == 0 and is_object(held):
                    # So that it outlives the initialiser's putting another one in its place.
                    kept.append(native.object(held))

    def differences(self):
        for name, address, data in self.statics:
            now = native.peek(address, len(data))
            if now != data:
                yield name, address, data, now

    def restore(self, plan):
        for name, address, data, now in self.differences():
            freed = any(
                before != after and native.peek(before, 1) is not None and not is_object(before)
                for before, after in words_of(address, data, now)
            )
            if freed:
                # What it pointed to may have been freed or moved since.
                plan.say("warning", f"`{name}` keeps what the new initialiser made of it: memory that it held was replaced")
            else:
                native.poke(address, data)


def words_of(address, data, now):
    for at in range(-address % WORD, len(data) - 7, WORD):
        yield int.from_bytes(data[at:at + 8], "little"), int.from_bytes(now[at:at + 8], "little")


def run_initialiser(name, live, file):
    spec_type = type(live.__spec__)
    spec = spec_type(name, live.__spec__.loader, origin=file)
    try:
        module = _imp.create_dynamic(spec)
        if module is live:
            raise Refused(f"the initialiser of `{name}` gave back the live module instead of a new one")
        if isinstance(getattr(module, "__spec__", None), type(None)):
            module.__spec__ = spec
        if getattr(module, "__file__", None) != live.__file__:
            module.__file__ = live.__file__
        _imp.exec_dynamic(module)
        return module
    except Refused:
        raise
    except BaseException as error:
        raise Failed(f"PyInit_{name.rpartition('.')[2]} raised {type(error).__name__}: {error}", trace_of(error))


def trace_of(error):
    try:
        import traceback
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except Exception:
        text = f"{type(error).__name__}: {error}"
    lines = text.rstrip().splitlines()
    ours = [line for line in lines if "<reload-dashboard>" not in line]
    return ours


def pair_types(plan, live, donor, seen):
    """Pairs the types under the same names of two dictionaries, and those within them."""
    for key, new in list(donor.items()):
        old = live.get(key)
        if not isinstance(new, type) or not isinstance(old, type) or new is old or id(new) in plan.live:
            continue
        if key in PRIVATE or not (plan.is_our_type(new) or plan.is_our_type(old) or new.__name__ == old.__name__):
            continue
        seen[old] = new
        plan.pair(new, old)
        pair_types(plan, old.__dict__, new.__dict__, seen)


def check_pair(live, donor):
    for offset, what in ((T_SIZE, "tp_basicsize"), (T_ITEM, "tp_itemsize")):
        before, after = word(id(live) + offset), word(id(donor) + offset)
        if before != after:
            raise Refused(f"instances of `{live.__name__}` changed their size ({what} {before} -> {after})")


def static_donors(plan, seen):
    """A static type stays where it is; the new image's own copy of it, never used by anyone, is the donor."""
    for name, address, size, own in plan.given["statics"]:
        if not (400 <= size <= 440 and is_type(address) and word(address + T_FLAGS) & TYPE_READY) or is_type(own):
            continue
        live = native.object(address)
        if live in seen:
            continue
        if not word(own + T_BASE) and live.__base__ is not object:
            poke(own + T_BASE, word(address + T_BASE))
        if not word(own + T_NEW) and "__new__" in live.__dict__:
            poke(own + T_NEW, word(address + T_NEW))
        if not word(own + WORD):
            poke(own + WORD, id(type(live)))
        if word(own + T_SIZE) == 0:
            continue
        native.ready(own)
        donor = native.object(own)
        seen[live] = donor
        plan.pair(donor, live)


def hidden_types(plan, state, modules, seen):
    """Types that only the library's own variables name."""
    def consider(before, after):
        if before != after and is_type(before) and is_type(after) and after not in plan.live:
            live, donor = native.object(before), native.object(after)
            if live.__name__ == donor.__name__ and live not in seen:
                seen[live] = donor
                plan.pair(donor, live)

    for _, address, data, now in state.differences():
        for before, after in words_of(address, data, now):
            consider(before, after)
    for live, donor in modules:
        (old, old_size), (new, new_size) = native.state(live), native.state(donor)
        if old_size != new_size and old:
            raise Refused(f"the state of module `{live.__name__}` changed its size (m_size {old_size} -> {new_size})")
        if old and new:
            before, after = native.peek(old, old_size), native.peek(new, new_size)
            for pair in words_of(old, before, after):
                consider(*pair)


def rename_donors(plan, seen):
    """Wherever the new image names a donor, it is to name the live object."""
    named = set(plan.live)
    for start, end in plan.given["own"]:
        data = native.peek(start, end - start)
        if data is None:
            continue
        for at in range(0, len(data) - 7, WORD):
            value = int.from_bytes(data[at:at + 8], "little")
            if value in named and not any(id(donor) <= start + at < id(donor) + 440 for donor in seen.values()):
                poke(start + at, plan.live[value])
                # The place counts as a reference.
                kept.append(native.object(plan.live[value]))


def adopt_new_type(plan, new, modules):
    """A class that did not exist before: what it names of the scratch module becomes the live one's."""
    bases = tuple(native.object(plan.live_of(id(base))) for base in new.__bases__)
    if bases != new.__bases__:
        flags = word(id(new) + T_FLAGS)
        poke(id(new) + T_FLAGS, flags & ~TYPE_IMMUTABLE)
        new.__bases__ = bases
        poke(id(new) + T_FLAGS, (word(id(new) + T_FLAGS) & ~TYPE_IMMUTABLE) | (flags & TYPE_IMMUTABLE))
    if new.__flags__ & TYPE_HEAP:
        scratch = {id(donor): id(live) for live, donor in modules}
        for offset in range(400, type(new).__basicsize__ - 7, WORD):
            value = word(id(new) + offset)
            if value in scratch:
                poke(id(new) + offset, scratch[value])
                kept.append(native.object(scratch[value]))
    for value in new.__dict__.values():
        function = function_in(value)
        if function is not None:
            rescope(plan, function)


def forget_donors(seen):
    """Donors are no subclasses that anybody should find."""
    for donor in seen.values():
        for base in donor.__bases__:
            subclasses = word(id(base) + T_SUBCLASSES)
            if is_object(subclasses) and isinstance(native.object(subclasses), dict):
                native.object(subclasses).pop(id(donor), None)


# pybind11 keeps a register of C++ types for all modules; a second class for one of them would be an error.


class Pybind11:
    def __init__(self, live_types):
        self.hidden, self.came = {}, []
        ours = {id(type_): type_ for type_ in live_types if type(type_).__name__ == "pybind11_type"}
        if not ours:
            return
        for node in self.nodes():
            info = word(node + 16)
            if info and word(info) in ours:
                self.hidden[node] = info
        found = {word(info) for info in self.hidden.values()}
        missing = [type_.__name__ for address, type_ in ours.items() if address not in found]
        if missing:
            raise Refused(
                f"pybind11's register does not list {', '.join(missing)}: classes that are local to their module"
                " (py::module_local), and pybind11 from version 3 on, are not supported"
            )
        for node in self.hidden:
            poke(node + 16, 0)

    @staticmethod
    def nodes():
        """The nodes {next, std::type_info, detail::type_info} of `internals::registered_types_cpp`, a hash map."""
        import builtins
        for key, capsule in list(vars(builtins).items()):
            if not key.startswith("__pybind11_internals_v4_gcc_libstdcpp"):
                continue
            internals = word(word(id(capsule) + 16))
            node, count, nodes = word(internals + 16), word(internals + 24), []
            while node and len(nodes) <= count:
                nodes.append(node)
                node = word(node)
            if len(nodes) == count and all(not word(node + 16) or is_type(word(word(node + 16))) for node in nodes):
                yield from nodes

    def show(self, seen):
        """Brings the live classes back: also to the new image, which may know them by keys of its own."""
        infos = {word(info): info for info in self.hidden.values()}
        live_of = {id(donor): live for live, donor in seen.items()}
        for node in self.nodes():
            info = word(node + 16)
            live = info and live_of.get(word(info))
            if live and id(live) in infos:
                self.came.append((live, infos[id(live)], info))
                poke(node + 16, infos[id(live)])
        for node, info in self.hidden.items():
            poke(node + 16, info)

    def check(self):
        for live, before, now in self.came:
            for offset, what in ((16, "size"), (24, "alignment"), (32, "holder")):
                if word(before + offset) != word(now + offset):
                    raise Refused(f"the C++ class behind `{live.__name__}` changed its {what}")


def rescope(plan, function):
    """pybind11's records of a function's overloads name the class that they belong to."""
    capsule = word(id(function) + F_SELF)
    if not is_object(capsule) or native.object(word(capsule + WORD)).__name__ != "PyCapsule":
        return
    record, rounds = word(capsule + 16), 0
    while record and rounds < 1000:
        following, rounds = 0, rounds + 1
        for place in range(8, 20):
            scope = word(record + WORD * place)
            if scope in plan.live:
                poke(record + WORD * place, plan.live[scope])
                following = word(record + WORD * (place + 2))
                break
        record = following


# From one version to another.


def transition(plan, modules, before, after):
    """Steps that make `after` what Python sees, where `before` is now; says what that means to users."""
    places = {module.__name__: module for module in modules}

    def dictionary(key):
        return places[key[0]].__dict__

    for key, (value, contents) in after.functions.items():
        if key[0] not in places:
            continue
        name = key[1]
        place = (id(places[key[0]]),) + key
        canonical = canon.setdefault(place, before.functions[key][0] if key in before.functions else value)
        if key not in before.functions:
            plan.say("added", name)
        elif before.functions[key][1].definition.told() != contents.definition.told():
            plan.say("updated", name)
        function = function_in(canonical)
        if type(function) is not type(function_in(value)):
            canonical, function = value, function_in(value)
            canon[place] = value
        yield from contents.steps(function)
        present = dictionary(key).get(name)
        if present is not canonical and (key not in before.functions or present is before.functions[key][0]):
            yield "item", dictionary(key), name, canonical
    for key in before.functions.keys() - after.functions.keys():
        canonical = canon.setdefault((id(places[key[0]]),) + key, before.functions[key][0])
        plan.say("removed", key[1])
        yield from remove(plan, word(id(function_in(canonical)) + F_DEFINITION), key[1])
        if dictionary(key).get(key[1]) is canonical:
            yield "item", dictionary(key), key[1], None

    for key, value in after.classes.items():
        if dictionary(key).get(key[1]) is not value:
            plan.say("class added", key[1])
            yield "item", dictionary(key), key[1], value
    for key in before.classes.keys() - after.classes.keys():
        if dictionary(key).get(key[1]) is before.classes[key]:
            plan.say("class removed", key[1])
            yield "item", dictionary(key), key[1], None

    for key, value in after.constants.items():
        present = dictionary(key).get(key[1], Version)
        known = before.constants.get(key, Version)
        if present is Version and known is Version or type(present) is type(known) and present == known:
            if type(present) is not type(value) or present != value:
                yield "item", dictionary(key), key[1], value, True
        elif present != value and known != value:
            plan.say("warning", f"`{key[1]}` has a new initial value, but the program has changed it: its value stays")
    if before.from_initialiser:
        for key in before.constants.keys() - after.constants.keys():
            if dictionary(key).get(key[1], Version) == before.constants[key]:
                yield "item", dictionary(key), key[1], None
    for key, value in after.objects.items():
        if key[1] == "__all__" and isinstance(value, list):
            yield "item", dictionary(key), key[1], list(value)
        elif key[1] not in dictionary(key):
            yield "item", dictionary(key), key[1], value

    for live, entries in after.types.items():
        old = before.types.get(live)
        if old is None:
            continue
        said = len(plan.said)
        for name, entry in entries.items():
            current = live.__dict__.get(name)
            known = old.get(name)
            if entry.kind == "constant" and known is not None and current != known.value:
                continue
            held = canon.get((id(live), name))
            if held is None:
                held = canon[id(live), name] = current if current is not None and known else entry.value
            if known is None and name != "__doc__":
                plan.say("added", f"{live.__name__}.{name}")
            elif not entry.same(known):
                plan.say("updated", f"{live.__name__}.{name}")
            if current is None and kind_of(held) == entry.kind and entry.kind in ("method", "function") and held is not entry.value:
                # It was removed before, and what is held of it comes back with it.
                yield from entry.steps(live, name, held)
                yield "type", live, name, held
            else:
                yield from entry.steps(live, name, current)
        for name in old.keys() - entries.keys():
            current = live.__dict__.get(name)
            if current is None or name == "__doc__":
                continue
            plan.say("removed", f"{live.__name__}.{name}")
            full = f"{live.__name__}.{name}"
            if isinstance(current, METHODS):
                yield from remove(plan, word(id(current) + D_DEFINITION), full)
            elif function_in(current) is not None and kind_of(current) == "function":
                yield from remove(plan, word(id(function_in(current)) + F_DEFINITION), full)
            yield "type", live, name, None
        for offset, value in after.words[live].items():
            if isinstance(value, tuple):
                table = word(id(live) + T_BUFFER) or native.memory(bytes(16))
                for index, code in enumerate(value):
                    yield from change(table + WORD * index, code)
                value = table
            yield from change(id(live) + offset, value)
        if len(plan.said) > said:
            plan.say("type", live.__name__)
        yield "modified", live, None, None


# What stands for a name once and for all, whatever version is live: by module or type, and name.
canon = {}


def remove(plan, definition, name):
    """Whoever holds a removed function is told so when calling it. Its flags stay, so that any way of calling it fits."""
    yield from change(definition + M_CODE, native.removed_code(name))
    yield from change(definition + M_DOC, 0)


class Record:
    """The live modules of one library, and every version of what Python sees of them."""

    def __init__(self):
        self.modules = {}
        self.types = []
        self.versions = {}
        self.active = None


pending = None


def prepare(given):
    global pending
    plan = Plan(given)
    steps = None
    pending = None
    try:
        check_layouts()
        steps = work_out(plan)
    except Refused as refused:
        plan.say("refused", refused)
    except Failed as failed:
        plan.say("failed", failed)
        for line in failed.trace:
            plan.say("trace", line)
    except BaseException as error:
        plan.say("failed", f"adapting the module: {type(error).__name__}: {error}")
        import traceback
        for line in traceback.format_exception(type(error), error, error.__traceback__):
            for part in line.rstrip().splitlines():
                plan.say("trace", part)
    said = "".join(f"{kind}\t{' '.join(text.splitlines())}\n" for kind, text in plan.said)
    return said, steps


def settle(committed):
    global pending
    if committed and pending:
        for record, number in pending:
            record.active = number
    pending = None


def work_out(plan):
    global pending
    given = plan.given
    found = list(find_live(given))
    if not found:
        plan.say("warning", "no module that Python has imported came out of this file: only its native code is reloaded")
        return []
    for name, _ in found:
        plan.say("module", name)
    key = tuple(name for name, _ in found)
    record = records.get(key)
    if record is None or [record.modules.get(name) for name in key] != [module for _, module in found]:
        record = records[key] = Record()
        record.modules = dict(found)
        for name, module in found:
            record.modules.update(submodules(name, module))
    if given["action"] == "rollback":
        if given["generation"] not in record.versions or record.active is None:
            return []
        after = record.versions[given["generation"]]
    else:
        after = new_version(plan, record, found)
    before = record.versions[record.active]
    steps = list(transition(plan, list(record.modules.values()), before, after))
    record.versions[given["generation"]] = after
    pending = [(record, given["generation"])]
    return steps


def new_version(plan, record, found):
    given = plan.given
    native.seen()
    live_modules = list(record.modules.values())
    if record.active is None or record.active not in record.versions:
        record.types = types_of(plan, live_modules)
        record.versions[given["parent"]] = plan.capture(live_modules, record.types)
        record.active = given["parent"]
    state = State(given["statics"])
    register = Pybind11(record.types)
    scratch = {}
    seen = {}
    try:
        for name, live in found:
            below = {full: sys.modules.pop(full) for full in submodules(name, live)}
            try:
                scratch[name] = run_initialiser(name, live, given["file"])
                scratch.update(submodules(name, scratch[name]))
            finally:
                for full in submodules(name, live):
                    del sys.modules[full]
                sys.modules[name] = live
                sys.modules.update(below)
        modules = [(record.modules[name], donor) for name, donor in scratch.items() if name in record.modules]
        for live, donor in modules:
            plan.pair(donor, live)
            plan.live[id(donor.__dict__)] = id(live.__dict__)
            pair_types(plan, live.__dict__, donor.__dict__, seen)
        hidden_types(plan, state, modules, seen)
        static_donors(plan, seen)
    except BaseException:
        forget_donors(seen)
        seen.clear()
        raise
    finally:
        kept.append((scratch, dict(seen)))
        register.show(seen)
        state.restore(plan)
    forget_donors(seen)
    register.check()
    for live, donor in seen.items():
        check_pair(live, donor)
    rename_donors(plan, seen)
    for live, donor in modules:
        native.stand_in(donor, live)

    version = Version()
    version.from_initialiser = True
    for live, donor in modules:
        for value in donor.__dict__.values():
            if function_in(value) is not None:
                rescope(plan, function_in(value))
        capture = {key: value for key, value in donor.__dict__.items() if key not in PRIVATE}
        plan.capture_module(version, donor, capture)
    for key, value in list(version.classes.items()):
        live = native.object(plan.live_of(id(value)))
        if live is value and value not in record.types:
            adopt_new_type(plan, value, modules)
            record.types.append(value)
        version.classes[key] = live
        if live is value:
            plan.capture_type(version, value, value)
    before = record.versions[record.active]
    for live, donor in seen.items():
        if live not in record.types:
            record.types.append(live)
            plan.capture_type(before, live, live)
            for module, _ in modules:
                names = [key for key, value in module.__dict__.items() if value is live]
                before.classes.update(((module.__name__, key), live) for key in names)
        for value in donor.__dict__.values():
            for function in functions_in(value):
                rescope(plan, function)
            if id(type(value)) in plan.live:
                poke(id(value) + WORD, plan.live[id(type(value))])
        plan.capture_type(version, live, donor)
    return version


def functions_in(value):
    if isinstance(value, property):
        candidates = (value.fget, value.fset, value.fdel)
    else:
        candidates = (value,)
    return [function_in(candidate) for candidate in candidates if function_in(candidate) is not None]


def types_of(plan, modules):
    found = []

    def collect(dictionary):
        for key, value in dictionary.items():
            if isinstance(value, type) and key not in PRIVATE and value not in found and plan.is_our_type(value):
                found.append(value)
                collect(value.__dict__)

    for module in modules:
        collect(module.__dict__)
    return found
