/* A Python extension in plain C, in three versions (VERSION), with static types or heap types (HEAP_TYPES), initialised in
 * one phase or in several (MULTI_PHASE). */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

static long readings;
static PyObject *error_class;

typedef struct {
    PyObject_HEAD
    long value;
#ifdef GROWN
    long more;
#endif
} Probe;

#ifdef HEAP_TYPES
static PyTypeObject *probe_type;
#define PROBE probe_type
#else
static PyTypeObject Probe_Type;
#define PROBE (&Probe_Type)
#endif

static PyObject *scale(PyObject *module, PyObject *arguments) {
    long value, offset = 0;
    if (!PyArg_ParseTuple(arguments, VERSION > 1 ? "l|l" : "l", &value, &offset)) return NULL;
    return Py_BuildValue("(ll)", value * VERSION, ++readings);
}

#if VERSION < 3
static PyObject *retired(PyObject *module, PyObject *nothing) { return PyUnicode_FromString("retired"); }
static PyObject *probe_legacy(Probe *self, PyObject *nothing) { return PyLong_FromLong(1); }
#endif

static PyObject *probe_step(Probe *self, PyObject *nothing) {
    self->value += VERSION;
    return PyLong_FromLong(self->value);
}

static PyObject *probe_repr(Probe *self) { return PyUnicode_FromFormat("<Probe v%d at %ld>", VERSION, self->value); }

#if VERSION > 1
/* The other way round than `probe_step` in what it takes: the method's flags are others. */
static PyObject *probe_back(Probe *self, PyObject *arguments) {
    if (!PyArg_ParseTuple(arguments, "")) return NULL;
    return PyLong_FromLong(--self->value);
}

static PyObject *probe_twice(Probe *self, void *closure) { return PyLong_FromLong(2 * self->value); }

static PyObject *calibrate(PyObject *module, PyObject *probe) {
    if (!PyObject_TypeCheck(probe, PROBE)) {
        PyErr_SetString(PyExc_TypeError, "not a Probe");
        return NULL;
    }
    return PyLong_FromLong(((Probe *)probe)->value + VERSION);
}
#endif

static PyMethodDef probe_methods[] = {
    {"step", (PyCFunction)probe_step, METH_NOARGS, "Moves on."},
#if VERSION < 3
    {"legacy", (PyCFunction)probe_legacy, METH_NOARGS, NULL},
#endif
#if VERSION > 1
    {"back", (PyCFunction)probe_back, METH_VARARGS, "Moves back."},
#endif
    {NULL},
};

static PyMemberDef probe_members[] = {
    {"value", T_LONG, offsetof(Probe, value), 0, "Where it is."},
    {NULL},
};

static PyGetSetDef probe_getters[] = {
#if VERSION > 1
    {"twice", (getter)probe_twice, NULL, "Twice where it is.", NULL},
#endif
    {NULL},
};

#if VERSION > 2
static Py_ssize_t probe_length(PyObject *self) { return 42; }

typedef struct {
    PyObject_HEAD
} Gauge;

static PyObject *gauge_make(PyObject *self, PyObject *nothing) {
    PyObject *probe = PyObject_CallNoArgs((PyObject *)PROBE);
    if (probe) ((Probe *)probe)->value = 99;
    return probe;
}

static PyMethodDef gauge_methods[] = {
    {"make", gauge_make, METH_NOARGS, NULL},
    {NULL},
};

static PyTypeObject Gauge_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "meter.Gauge",
    .tp_basicsize = sizeof(Gauge),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = PyType_GenericNew,
    .tp_methods = gauge_methods,
};
#endif

#ifdef HEAP_TYPES
static PyType_Slot probe_slots[] = {
    {Py_tp_methods, probe_methods},
    {Py_tp_members, probe_members},
    {Py_tp_getset, probe_getters},
    {Py_tp_repr, probe_repr},
    {Py_tp_new, PyType_GenericNew},
#if VERSION > 2
    {Py_sq_length, probe_length},
#endif
    {0, NULL},
};

static PyType_Spec probe_specification = {
    "meter.Probe", sizeof(Probe), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, probe_slots,
};
#else
#if VERSION > 2
static PySequenceMethods probe_sequence = {.sq_length = probe_length};
#endif

static PyTypeObject Probe_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "meter.Probe",
    .tp_basicsize = sizeof(Probe),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = PyType_GenericNew,
    .tp_methods = probe_methods,
    .tp_members = probe_members,
    .tp_getset = probe_getters,
    .tp_repr = (reprfunc)probe_repr,
#if VERSION > 2
    .tp_as_sequence = &probe_sequence,
#endif
};
#endif

static PyMethodDef functions[] = {
    {"scale", scale, METH_VARARGS,
     VERSION == 1 ? "scale($module, value)\n--\n\nversion 1" : "scale($module, value, offset=0)\n--\n\nversion 2"},
#if VERSION < 3
    {"retired", retired, METH_NOARGS, NULL},
#endif
#if VERSION > 1
    {"calibrate", calibrate, METH_O, NULL},
#endif
    {NULL},
};

static int fill(PyObject *module) {
#ifdef RAISES
    PyErr_SetString(PyExc_ValueError, "the meter is not plugged in");
    return -1;
#endif
    readings = 0;
    error_class = PyErr_NewException("meter.MeterError", NULL, NULL);
    if (!error_class || PyModule_AddObjectRef(module, "MeterError", error_class)) return -1;
#ifdef HEAP_TYPES
    if (!(probe_type = (PyTypeObject *)PyType_FromSpec(&probe_specification))) return -1;
#endif
    if (PyModule_AddType(module, PROBE)) return -1;
#if VERSION > 2
    if (PyModule_AddType(module, &Gauge_Type)) return -1;
#endif
    return PyModule_AddIntConstant(module, "VERSION", VERSION);
}

#ifdef MULTI_PHASE
static PyModuleDef_Slot phases[] = {{Py_mod_exec, fill}, {0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "meter", "Reads.", 0, functions, phases};
PyMODINIT_FUNC PyInit_meter(void) { return PyModuleDef_Init(&definition); }
#else
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "meter", "Reads.", -1, functions};
PyMODINIT_FUNC PyInit_meter(void) {
    PyObject *module = PyModule_Create(&definition);
    if (module && fill(module)) Py_CLEAR(module);
    return module;
}
#endif
