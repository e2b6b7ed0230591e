"""What a screen reader could do with a window, from the command line.

    enable                  says on the session bus that somebody listens; before the program starts
    tree APPLICATION        every named part: role, name, states, one per line
    parts APPLICATION       every part, named or not, as JSON: role, name, states, value, what can be done, depth
    press APPLICATION NAME  the action of the part that can be pressed and whose name begins with NAME
    place APPLICATION NAME  where in the window the middle of the part is whose name begins with NAME: x and y, in pixels
    write APPLICATION TEXT  replaces what stands in its first field in view that can be edited; fails until there is one
                            and it has taken the text

Runs under Debian's own Python, whose packages bring the bindings.
"""

import json
import sys

import gi

gi.require_version("Atspi", "2.0")
from gi.repository import Atspi, Gio, GLib  # noqa: E402


def enable():
    bus = Gio.bus_get_sync(Gio.BusType.SESSION, None)
    for name in ("IsEnabled", "ScreenReaderEnabled"):
        bus.call_sync(
            "org.a11y.Bus", "/org/a11y/bus", "org.freedesktop.DBus.Properties", "Set",
            GLib.Variant("(ssv)", ("org.a11y.Status", name, GLib.Variant("b", True))),
            None, Gio.DBusCallFlags.NONE, 10_000, None,
        )


def application(name):
    desktop = Atspi.get_desktop(0)
    for index in range(desktop.get_child_count()):
        child = desktop.get_child_at_index(index)
        if child is not None and child.get_name() == name:
            return child
    sys.exit(f"no application {name}")


def parts(root):
    return (part for part, _ in parts_and_depths(root))


def parts_and_depths(root):
    waiting = [(root, 0)]
    while waiting:
        part, depth = waiting.pop()
        yield part, depth
        children = [part.get_child_at_index(index) for index in range(part.get_child_count())]
        waiting.extend((child, depth + 1) for child in reversed(children) if child is not None)


def states(part):
    return ",".join(sorted(state.value_nick for state in part.get_state_set().get_states()))


def tree(name):
    for part in parts(application(name)):
        if part.get_name():
            print(part.get_role_name(), part.get_name().replace("\n", " "), states(part), sep="\t")


def describe(name):
    told = []
    for part, depth in parts_and_depths(application(name)):
        action, value = part.get_action_iface(), part.get_value_iface()
        told.append({
            "role": part.get_role_name(),
            "name": part.get_name(),
            "description": part.get_description(),
            "states": states(part).split(","),
            "actions": action.get_n_actions() if action is not None else 0,
            "value": value.get_current_value() if value is not None else None,
            "depth": depth,
        })
    json.dump(told, sys.stdout)


def press(name, beginning):
    for part in parts(application(name)):
        action = part.get_action_iface()
        if part.get_name().startswith(beginning) and action is not None and action.get_n_actions() > 0:
            action.do_action(0)
            return
    sys.exit(f"nothing in {name} can be pressed and is called {beginning}")


def place(name, beginning):
    for part in parts(application(name)):
        component = part.get_component_iface()
        if part.get_name().startswith(beginning) and component is not None:
            box = component.get_extents(Atspi.CoordType.WINDOW)
            print(box.x + box.width // 2, box.y + box.height // 2)
            return
    sys.exit(f"nothing in {name} is called {beginning}")


def write(name, text):
    for part in parts(application(name)):
        field, found = part.get_editable_text_iface(), part.get_state_set()
        if field is None or not all(found.contains(state) for state in (Atspi.StateType.EDITABLE, Atspi.StateType.SHOWING)):
            continue
        field.set_text_contents(text)
        stands = part.get_text_iface().get_text(0, -1)
        if stands != text:
            sys.exit(f"the field of {name} reads {stands}")
        return
    sys.exit(f"no field in {name} can be edited")


def main():
    verb, *arguments = sys.argv[1:]
    verbs = {"enable": enable, "tree": tree, "parts": describe, "press": press, "place": place, "write": write}
    verbs[verb](*arguments)


main()
