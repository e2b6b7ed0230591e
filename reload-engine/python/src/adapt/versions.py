"""One version of everything that Python sees of a library, and taking note of it. The only writes are into what a donor will
never need again."""


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
