"""One reload or rollback, as native code asks for it: `prepare`, then `settle`."""


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
