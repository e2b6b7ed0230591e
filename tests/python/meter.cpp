// The module `meter` with pybind11, in three versions (VERSION).
#include <pybind11/pybind11.h>

#include <string>

namespace py = pybind11;

static long readings = 0;

struct Probe {
    long value = 0;
};

#if VERSION > 2
// A type of this file alone: equal to nothing of another version.
namespace {
struct Gauge {
    Probe make() { return Probe{99}; }
};
} // namespace
#endif

PYBIND11_MODULE(meter, module) {
#ifdef RAISES
    throw py::value_error("the meter is not plugged in");
#endif
#if VERSION > 1
    // First, so that the lambdas below have other numbers than before.
    module.def("calibrate", [](const Probe &probe) { return probe.value + VERSION; });
    module.def(
        "scale", [](long value, long) { return py::make_tuple(value * VERSION, ++readings); }, "version 2", py::arg("value"),
        py::arg("offset") = 0);
#else
    module.def("scale", [](long value) { return py::make_tuple(value * VERSION, ++readings); }, "version 1", py::arg("value"));
#endif
#if VERSION < 3
    module.def("retired", [] { return "retired"; });
#endif
    py::class_<Probe> probe(module, "Probe");
    probe.def(py::init<>());
#if VERSION > 1
    probe.def("back", [](Probe &probe) { return --probe.value; });
    probe.def_property_readonly("twice", [](const Probe &probe) { return 2 * probe.value; });
#endif
    probe.def_readwrite("value", &Probe::value);
    probe.def("step", [](Probe &probe) { return probe.value += VERSION; });
    probe.def("__repr__", [](const Probe &probe) {
        return "<Probe v" + std::to_string(VERSION) + " at " + std::to_string(probe.value) + ">";
    });
#if VERSION < 3
    probe.def("legacy", [](const Probe &) { return 1; });
#endif
#if VERSION > 2
    probe.def("__len__", [](const Probe &) { return 42; });
    py::class_<Gauge>(module, "Gauge").def(py::init<>()).def("make", &Gauge::make);
#endif
    module.attr("VERSION") = VERSION;
}
