"""Running the new image's initialiser into a scratch module, giving the library's statics back what they held, and pairing what
it has made with what is live."""


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
