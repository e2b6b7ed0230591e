"""Brings what Python sees of an extension module in step with a reload of its library.

The new image's own initialiser is run once, into a scratch module. What it makes there are donors: the live module, types
and functions stay the objects they are and get the donors' contents. All of it is worked out while nothing has changed;
what is to be changed is returned as a list of steps, which native code takes after the commit without running any Python.

Whatever was adapted is kept for ever: so every older version can be made live again, and no reference count needs to follow
what is moved.

The files of this folder are run one after the other in one namespace: `layout`, `contents`, `versions`, `initialiser`,
`pybind11`, `transition`, `reload`. This one knows where CPython keeps things, and nothing of modules or versions.
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
