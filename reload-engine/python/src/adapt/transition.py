"""From one version to another: the steps, and what they mean to users."""


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
