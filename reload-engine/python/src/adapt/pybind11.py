"""pybind11 keeps a register of C++ types for all modules; a second class for one of them would be an error."""


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
