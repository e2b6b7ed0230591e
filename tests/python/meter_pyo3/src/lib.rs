//! The module `meter` with PyO3, in three versions (`cfg(v1)` to `cfg(v3)`).

use std::sync::atomic::{AtomicI64, Ordering};

use pyo3::prelude::*;

static READINGS: AtomicI64 = AtomicI64::new(0);

const VERSION: i64 = if cfg!(v3) {
    3
} else if cfg!(v2) {
    2
} else {
    1
};

fn reading() -> i64 {
    READINGS.fetch_add(1, Ordering::SeqCst) + 1
}

/// version 1
#[cfg(v1)]
#[pyfunction]
fn scale(value: i64) -> (i64, i64) {
    (value * VERSION, reading())
}

/// version 2
#[cfg(not(v1))]
#[pyfunction]
#[pyo3(signature = (value, offset = 0))]
fn scale(value: i64, offset: i64) -> (i64, i64) {
    let _ = offset;
    (value * VERSION, reading())
}

#[cfg(not(v3))]
#[pyfunction]
fn retired() -> &'static str {
    "retired"
}

#[cfg(not(v1))]
#[pyfunction]
fn calibrate(probe: &Probe) -> i64 {
    probe.value + VERSION
}

#[pyclass(subclass)]
struct Probe {
    #[pyo3(get, set)]
    value: i64,
}

#[pymethods]
impl Probe {
    #[new]
    fn new() -> Self {
        Probe { value: 0 }
    }

    fn step(&mut self) -> i64 {
        self.value += VERSION;
        self.value
    }

    fn __repr__(&self) -> String {
        format!("<Probe v{VERSION} at {}>", self.value)
    }

    #[cfg(not(v3))]
    fn legacy(&self) -> i64 {
        1
    }

    #[cfg(not(v1))]
    fn back(&mut self) -> i64 {
        self.value -= 1;
        self.value
    }

    #[cfg(not(v1))]
    #[getter]
    fn twice(&self) -> i64 {
        2 * self.value
    }

    #[cfg(v3)]
    fn __len__(&self) -> usize {
        42
    }
}

#[cfg(v3)]
#[pyclass]
struct Gauge {}

#[cfg(v3)]
#[pymethods]
impl Gauge {
    #[new]
    fn new() -> Self {
        Gauge {}
    }

    fn make(&self) -> Probe {
        Probe { value: 99 }
    }
}

#[pymodule]
fn meter(module: &Bound<'_, PyModule>) -> PyResult<()> {
    #[cfg(raises)]
    return Err(pyo3::exceptions::PyValueError::new_err("the meter is not plugged in"));
    module.add_function(wrap_pyfunction!(scale, module)?)?;
    #[cfg(not(v3))]
    module.add_function(wrap_pyfunction!(retired, module)?)?;
    #[cfg(not(v1))]
    module.add_function(wrap_pyfunction!(calibrate, module)?)?;
    module.add_class::<Probe>()?;
    #[cfg(v3)]
    module.add_class::<Gauge>()?;
    module.add("VERSION", VERSION)
}
