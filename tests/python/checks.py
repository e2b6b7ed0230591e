"""What must hold of the module `meter` before and after its reloads, whatever it was written with. Versions are 1, 2 and 3.

Everything that a program can hold on to is held from the beginning: functions, bound methods, instances, a subclass."""
import gc
import threading

spins = 0
troubles = []


def begin(module):
    global meter, Probe, Sub, scale, held, retired, probe, sub, step, legacy, readings
    meter, Probe, held, retired = module, module.Probe, module.scale, module.retired
    scale, readings = counted(held), 0

    class Sub(Probe):
        pass

    probe, sub = Probe(), Sub()
    probe.step(), sub.step()
    step, legacy = probe.step, probe.legacy


def counted(function):
    """The extension counts its successful calls in a static: here as well."""
    def call(*arguments):
        global readings
        result = function(*arguments)
        readings += 1
        return result

    return call


def spin():
    """Calls, from a main thread that never rests."""
    global spins
    factor = scale(10)[0]
    if factor not in (10, 20, 30):
        troubles.append(factor)
    spins += 1


def raises(kind, call, *arguments):
    try:
        return f"no {kind.__name__} but {call(*arguments)!r}"
    except kind:
        return True
    except BaseException as error:
        return f"{type(error).__name__}: {error}"


def step_by(call, of, version):
    before = of.value
    call()
    return of.value - before == version or f"{before} -> {of.value}"


def at(version):
    """What of version `version` does not hold, or `fine`."""
    wrong = []

    def check(what, holds):
        try:
            result = holds()
        except BaseException as error:
            result = f"{type(error).__name__}: {error}"
        if result is not True:
            wrong.append(f"{what}: {result}")

    def kept():
        now = scale(1)[1]
        # A spinning thread counts between the one and the other.
        return now == readings or spins > 0 and abs(now - readings) < 3 or f"{now} instead of {readings}"

    check("version", lambda: meter.VERSION == version or meter.VERSION)
    check("same type", lambda: meter.Probe is Probe and type(probe) is Probe and type(sub) is Sub)
    check("same function", lambda: meter.scale is held)
    check("static", kept)
    check("held function", lambda: scale(10)[0] == 10 * version or scale(10))
    check("method", lambda: step_by(probe.step, probe, version))
    check("bound method", lambda: step_by(step, probe, version))
    check("method of a subclass", lambda: step_by(sub.step, sub, version))
    check("repr", lambda: repr(probe) == f"<Probe v{version} at {probe.value}>" or repr(probe))
    check("new instance", lambda: step_by((new := meter.Probe()).step, new, version))
    check("documentation", lambda: f"version {min(version, 2)}" in held.__doc__ or held.__doc__)
    if version == 1:
        check("old signature", lambda: raises(TypeError, scale, 10, 5))
        check("nothing added", lambda: not hasattr(meter, "calibrate") and not hasattr(probe, "back") and not hasattr(probe, "twice"))
    else:
        check("new signature", lambda: scale(10, 5)[0] == 10 * version or scale(10, 5))
        check("added method", lambda: (lambda before: probe.back() == before - 1)(probe.value))
        check("added method, subclass", lambda: (lambda before: sub.back() == before - 1)(sub.value))
        check("added getter", lambda: probe.twice == 2 * probe.value)
        check("added function", lambda: meter.calibrate(probe) == probe.value + version)
        check("added function, subclass", lambda: meter.calibrate(sub) == sub.value + version)
        check("added function, new instance", lambda: meter.calibrate(meter.Probe()) == version)
        check("added function, stranger", lambda: raises(TypeError, meter.calibrate, "a probe"))
    if version < 3:
        check("function not yet removed", lambda: retired() == meter.retired() == "retired")
        check("method not yet removed", lambda: legacy() == probe.legacy() == 1)
        check("no len yet", lambda: raises(TypeError, len, probe))
        check("no class yet", lambda: not hasattr(meter, "Gauge"))
    else:
        check("removed function", lambda: not hasattr(meter, "retired"))
        check("held removed function", lambda: raises(RuntimeError, retired))
        check("removed method", lambda: raises(AttributeError, lambda: probe.legacy))
        check("held removed method", lambda: raises(RuntimeError, legacy))
        check("new special method", lambda: len(probe) == 42)
        check("new special method, subclass", lambda: len(sub) == 42)
        check("new class", lambda: type(made := meter.Gauge().make()) is Probe and made.value == 99 and meter.calibrate(made) == 102)
    check("no donors", lambda: [found.__name__ for found in Probe.__base__.__subclasses__()].count("Probe") == 1)
    return "; ".join(wrong + troubles) or "fine"


def soak(rounds):
    """Makes and forgets, so that a wrong reference count shows."""
    for _ in range(rounds):
        new = meter.Probe()
        new.step()
        bound = new.step
        bound()
        scale(1)
        repr(new)
        del new, bound
    gc.collect()
    return "fine"


def busy(milliseconds):
    """Holds the interpreter in one call of native code."""
    import ctypes
    ctypes.PyDLL(None).usleep(milliseconds * 1000)
    return "done"


def spun():
    return spins


def threads():
    return threading.active_count()


def second_interpreter(wanted):
    import _xxsubinterpreters

    global other
    if wanted:
        other = _xxsubinterpreters.create()
    else:
        _xxsubinterpreters.destroy(other)
    return "done"


def again(version):
    """`importlib.reload` finds the module as it is, and leaves it so."""
    import importlib

    before = [id(meter), id(Probe), id(held), id(meter.scale)]
    importlib.reload(meter)
    after = [id(meter), id(meter.Probe), id(held), id(meter.scale)]
    return at(version) if before == after else f"{before} -> {after}"
